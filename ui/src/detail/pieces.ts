// What the node keeps of the wire, in the order in which it came: where each message began and ended, what it carried,
// what is missing. Single packets are not kept, and nothing is made up for them. Pure.

import type { Exchange, Message } from '../api';

export type Direction = 'to-server' | 'to-client';

export interface Piece {
  /** `null` where it is not known when. */
  at: string | null;
  direction: Direction;
  what: 'request' | 'requestBegins' | 'requestEnds' | 'interim' | 'response' | 'responseBegins' | 'responseEnds' | 'frames' | 'gap';
  /** Octets of a message's body as they travelled, or of a gap. */
  octets: number | null;
  /** A status code, a gap's cause and place. */
  note: string | null;
}

export function pieces(exchange: Exchange): Piece[] {
  const out: Piece[] = [];
  const message = (of: Message | null, direction: Direction, what: 'request' | 'response') => {
    if (!of) return;
    const octets = of.body.wire_size > 0 ? of.body.wire_size : null;
    if (of.first_byte === of.last_byte) out.push({ at: of.first_byte, direction, what, octets, note: null });
    else out.push({ at: of.first_byte, direction, what: `${what}Begins`, octets: null, note: null }, { at: of.last_byte, direction, what: `${what}Ends`, octets, note: null });
  };
  message(exchange.request, 'to-server', 'request');
  for (const i of exchange.interim) out.push({ at: i.time, direction: 'to-client', what: 'interim', octets: null, note: String(i.status) });
  message(exchange.response, 'to-client', 'response');
  for (const m of exchange.websocket?.messages ?? []) out.push({ at: m.time, direction: m.direction, what: 'frames', octets: m.size, note: String(m.frames) });
  // Times have nine digits each, so their text is in the order of time; what began first of two at a time stays first.
  out.sort((a, b) => ((a.at ?? '') < (b.at ?? '') ? -1 : (a.at ?? '') > (b.at ?? '') ? 1 : 0));
  // Where a connection was met in the middle, places count from 2³² on, which tells nobody anything.
  for (const gap of exchange.gaps) out.push({ at: null, direction: gap.direction, what: 'gap', octets: gap.length, note: gap.offset < 2 ** 32 ? `${gap.cause}, ${gap.offset}` : gap.cause });
  return out;
}

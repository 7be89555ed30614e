// One exchange: the reading on top, then what was sent and answered. The same panels stand beside the list, on the
// page of the exchange, and on a phone behind tabs. What is in trouble rises under the reading.

import { signal, useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo } from 'preact/hooks';
import { api } from '../api';
import type { BodyText, Detail, Exchange, Header, Link, Message, Row, SignatureVerdict } from '../api';
import { clockText, duration, grouped, keepEnd, microsBetween, nanos, size, timeOf, timeOfId } from '../format';
import { plain, sentence, value } from '../sentence';
import { Badge, Icon, KindIcon, Signature, Status, sealOf, type IconName } from '../shapes';
import { release } from '../hosts';
import { around, book, causes, closeDetail, copy, detail, detailError, feed, fullWidth, go, hrefOf, lang, leavePage, local, middling, move, narrow, notice, openDetail, openId, openPage, openRow, permalink, place, rowOf, t, wide } from '../state';
import { PANELS, type Panel } from '../url';
import { isDelivery, statusClass } from '../list/window';
import { outcome } from '../mentions';
import { kindWord, reasonWord, Sentence, Time } from '../list/row';
import { Body } from './body';
import { curl } from './curl';
import { pieces } from './pieces';
import { cursor } from './cursor';
import { covered, signingString } from './signing';

// --- small parts --------------------------------------------------------------------------------------------------

function Tool({ icon, label, act, href }: { icon: IconName; label: string; act?: () => void; href?: string }): JSX.Element {
  const inner = <Icon name={icon} />;
  if (href)
    return (
      <a
        class="tool"
        href={href}
        title={label}
        aria-label={label}
        onClick={(event) => {
          if (!act || event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          act();
        }}
      >
        {inner}
      </a>
    );
  return (
    <button type="button" class="tool" title={label} aria-label={label} onClick={act}>
      {inner}
    </button>
  );
}

function Line({ name, children }: { name: ComponentChildren; children: ComponentChildren }): JSX.Element {
  return (
    <div class="line">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function PanelBox({ id, title, aside, children, class: c }: { id: Panel | 'timing' | 'websocket'; title: string; aside?: ComponentChildren; children: ComponentChildren; class?: string }): JSX.Element {
  return (
    <section class={`panel ${c ?? ''}`} id={`panel-${id}`} aria-labelledby={`title-${id}`}>
      <header>
        <h2 id={`title-${id}`} tabIndex={-1}>
          {title}
        </h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** A value like `alice@gts1` with its host one step back. */
const Who = ({ of }: { of: string }) => <Sentence parts={value(of, book.value)} />;

/** The account of an actor's address, for as far as its path says so: `https://gts1…/users/alice` → alice@gts1…. */
function account(url: string): string {
  const m = /^https?:\/\/([^/]+)\/(?:users?|u|@|ap\/users|actors?|author)\/?@?([^/?#]+)\/?$/.exec(url) ?? /^https?:\/\/([^/]+)\/@([^/?#]+)$/.exec(url);
  return m ? `${m[2]}@${m[1]}` : url.replace(/^https?:\/\//, '');
}

// --- the head -----------------------------------------------------------------------------------------------------

export function copyCurl(): void {
  const d = detail.peek();
  const text = d && curl(d.exchange, d.request_text?.text ?? null);
  if (text) void copy(text);
}

function Tools({ id, page }: { id: string; page: boolean }): JSX.Element {
  const w = t.value;
  return (
    <>
      <span class="copied" role="status">
        {notice.value}
      </span>
      <Tool icon="terminal" label={w.copyCurl} act={copyCurl} />
      <Tool icon="link" label={w.copyLink} act={() => void copy(permalink(id))} />
      {!page && <Tool icon="external" label={w.openPage} href={hrefOf({ page: 'exchange', id, panel: null })} act={() => openPage(id)} />}
      {!page && <Tool icon="x" label={w.close} act={closeDetail} />}
    </>
  );
}

// --- the reading --------------------------------------------------------------------------------------------------

function Cards({ row, exchange }: { row: Row; exchange: Exchange | null }): JSX.Element {
  const w = t.value;
  const slots = new Map(row.slots);
  const delivery = isDelivery(row);
  const activity = exchange?.reading.activity;
  const actor = delivery ? (slots.get('actor') ?? (activity?.actor ? account(activity.actor) : row.from)) : row.from;
  const named = ['object', 'follower', 'recipient', 'author', 'target'].map((slot) => slots.get(slot) ?? '');
  const other = (delivery && named.find((name) => name !== actor && name.endsWith(`@${row.to}`))) || row.to;
  const from = book.value.get(row.from);
  const to = book.value.get(row.to);
  const visible = row.visibility === 'direct' && other.includes('@') ? w.toOnly(other.split('@')[0] ?? other) : row.visibility ? w.visibility[row.visibility] : null;
  return (
    <div class="cards">
      <div class="card">
        <Badge host={from} label large />
        <span>
          <span class="who">
            <Who of={actor} />
          </span>
          <small title={row.from_software ?? undefined}>{[row.from_software && release(row.from_software), delivery ? w.sender : null].filter(Boolean).join(w.comma) || row.from}</small>
        </span>
      </div>
      <div class="between">
        <b>{kindWord(row, w)}</b>
        <span class="line-arrow" aria-hidden="true" />
        <small>{visible ?? row.method ?? ''}</small>
      </div>
      <div class="card">
        <Badge host={to} label large />
        <span>
          <span class="who">
            <Who of={other} />
          </span>
          <small title={to.software ?? undefined}>{to.software ? release(to.software) : row.to}</small>
        </span>
      </div>
    </div>
  );
}

/** The one sentence that says who did what wrong, where something went wrong. */
function trouble(d: Detail, words: typeof t.value): { tone: 'err' | 'warn'; head: string; rest: string[] } | null {
  const { row, exchange } = d;
  const host = book.value.short(row.to);
  const c = statusClass(row);
  const accepted = row.status !== null && row.status < 400;
  const rest: string[] = [];
  const { verdict, explanation } = exchange.reading.signature;
  if (explanation && (verdict === 'invalid' || verdict === 'key-not-seen')) rest.push(explanation);
  const said = c === 'refused' || c === 'failed' ? answerText(d.response_text) : null;
  if (said) rest.push(words.itSaid(said));
  if (isDelivery(row) && row.digest === 'mismatch') return { tone: 'err', head: words.troubleDigest(host, accepted), rest: [words.troubleDigestWhy, ...rest] };
  if (row.signature === 'invalid') return { tone: 'err', head: words.troubleInvalid(host, accepted), rest };
  if (isDelivery(row) && row.signature === 'unsigned' && row.reason) return { tone: 'err', head: words.troubleUnsigned(host, accepted), rest };
  if (c === 'failed') return { tone: 'err', head: words.troubleFailed(host, row.status ?? 0), rest };
  if (c === 'refused') return { tone: 'err', head: words.troubleRefused(host, row.status ?? 0), rest };
  if (row.gaps > 0) return { tone: 'warn', head: words.troubleGap, rest: [words.troubleGapWhy] };
  if (c === 'none') return { tone: 'err', head: words.troubleNone(host), rest };
  return null;
}

/** What a refusing server said, shortly. */
function answerText(body: BodyText | null): string | null {
  if (!body?.text) return null;
  let text = body.text;
  if (body.json) {
    try {
      const json = JSON.parse(body.text) as Record<string, unknown>;
      const found = json.error_description ?? json.error ?? json.message ?? json.detail ?? json.title;
      if (typeof found !== 'string') return null;
      text = found;
    } catch {
      return null;
    }
  } else if (/<html|<!doctype/i.test(text)) return null;
  return keepStart(text.trim(), 240);
}
const keepStart = (text: string, most: number) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

const PUBLIC = /(#|^as:|^)Public$/;

function Addressed({ activity }: { activity: NonNullable<Exchange['reading']['activity']> }): JSX.Element {
  const w = t.value;
  const all = [...new Set([...activity.to, ...activity.cc])];
  return (
    <>
      {all.slice(0, 4).map((address, i) => (
        <span class="addressee" title={address}>
          {PUBLIC.test(address) ? w.publicWord : <Who of={keepEnd(account(address), 46)} />}
          {i < Math.min(all.length, 4) - 1 ? w.comma : ''}
        </span>
      ))}
      {all.length > 4 && <span class="dim"> {w.andMore(all.length - 4)}</span>}
    </>
  );
}

function SignatureWords({ row, exchange }: { row: Row; exchange: Exchange | null }): JSX.Element {
  const w = t.value;
  const seal = sealOf(row.signature, row.digest);
  const key = exchange?.reading.signature.key_id;
  const owner = key ? account(key.replace(/#.*$/, '').replace(/\/(main-?key|public-?key|key)\/?$/i, '')) : null;
  const bad = seal === 'invalid' || seal === 'mismatch';
  return (
    <>
      <Signature signature={row.signature} digest={row.digest} gaps={row.gaps} label={false} /> <span class={bad ? 'errink strong' : ''}>{seal === 'mismatch' ? w.mismatch : w.verdicts[seal]}</span>
      {row.scheme && <span class="dim"> {row.scheme === 'rfc9421' ? 'RFC 9421' : 'draft-cavage'}</span>}
      {owner && (
        <>
          {w.comma}
          <KeyOwner owner={owner} />
        </>
      )}
      {row.digest !== 'absent' && seal !== 'mismatch' && (
        <>
          {w.comma}
          <span class={row.digest === 'mismatch' ? 'errink' : ''}>{w.digestWords[row.digest]}</span>
        </>
      )}
    </>
  );
}

function KeyOwner({ owner }: { owner: string }): JSX.Element {
  const [before, after] = t.value.keyOf('\u0000').split('\u0000');
  return (
    <>
      {before}
      <Who of={owner} />
      {after}
    </>
  );
}

/** A link to another exchange, as it is to be opened from here. */
function Other({ id, children, class: c, title }: { id: string; children: ComponentChildren; class?: string; title?: string | undefined }): JSX.Element {
  const onPage = place.value.page === 'exchange';
  return (
    <a
      href={hrefOf(onPage ? { id, panel: null } : { sel: id })}
      class={c}
      title={title}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        if (onPage) openPage(id);
        else openDetail(id);
      }}
    >
      {children}
    </a>
  );
}

/** One link of the chain: what it was and when. A guess is dotted, and said to be one. */
function Linked({ of, here }: { of: Link; here: Row }): JSX.Element {
  const w = t.value;
  const other = rowOf(of.id);
  const us = microsBetween(here.started, other?.started ?? timeOfId(of.id));
  return (
    <div class="linked">
      <Other id={of.id} class={of.proven ? 'solid' : 'dotted'} title={of.proven ? undefined : w.inferredWhy}>
        ↗ {other ? plain(sentence(other, lang.value, book.value, true)) : clockText(timeOfId(of.id), local.value)}
      </Other>
      <span class="dim">
        {us < 0 ? w.before(duration(-us)) : w.later(duration(us))}
        {!of.proven && <span class="off-screen">{`${w.comma}${w.inferred}`}</span>}
      </span>
    </div>
  );
}

const MOST_LINKED = 4;
function Chain({ row, said }: { row: Row; said: string | undefined }): JSX.Element {
  const w = t.value;
  const known = causes.value;
  const all = useSignal(false);
  const cause = known.get(row.id) ?? row.caused_by;
  const effects = new Map(row.caused.map((effect) => [effect.id, effect]));
  for (const [id, of] of known) if (of.id === row.id) effects.set(id, { id, proven: of.proven });
  // What another holds is that one's.
  const sorted = [...effects.values()].filter((effect) => effect.id !== said && (known.get(effect.id)?.id ?? row.id) === row.id).sort((a, b) => (a.id < b.id ? -1 : 1));
  const shown = all.value ? sorted : sorted.slice(0, MOST_LINKED);
  const guessed = (text: string, links: readonly Link[]) => (
    <>
      {text}
      {links.every((link) => !link.proven) && <small title={w.inferredWhy}>{w.inferred}</small>}
    </>
  );
  return (
    <>
      {cause && (
        <Line name={guessed(isDelivery(row) ? w.answers : w.causedBy, [cause])}>
          <Linked of={cause} here={row} />
        </Line>
      )}
      {shown.length > 0 && (
        <Line name={guessed(w.caused, sorted)}>
          {shown.map((effect) => (
            <Linked key={effect.id} of={effect} here={row} />
          ))}
          {sorted.length > shown.length && (
            <button type="button" class="link" onClick={() => (all.value = true)}>
              {w.andMore(sorted.length - shown.length)}
            </button>
          )}
        </Line>
      )}
    </>
  );
}

function Reading({ row, d }: { row: Row; d: Detail | null }): JSX.Element {
  const w = t.value;
  const exchange = d?.exchange ?? null;
  const parts = sentence(row, lang.value, book.value);
  const bad = d && trouble(d, w);
  const ended = outcome(around.value ?? [], row) ?? outcome(feed.rows.value, row);
  const activity = exchange?.reading.activity ?? null;
  const origin = exchange?.origin ?? null;
  const sources = [...new Set([origin?.address_from, origin?.host_from, origin?.software_from].filter((s): s is string => !!s))];
  const target = row.target ?? '';
  return (
    <section class="panel reading" id="panel-reading" aria-labelledby="title-reading">
      <h1 id="title-reading" tabIndex={-1} class={isDelivery(row) ? 'delivery' : ''} aria-label={plain(parts)}>
        <Sentence parts={parts} />
      </h1>
      {bad && (
        <div class={`trouble ${bad.tone}`}>
          <b>{bad.head}</b>
          {bad.rest.map((line) => (
            <span>{line}</span>
          ))}
        </div>
      )}
      <Cards row={row} exchange={exchange} />
      {row.excerpt && <blockquote class="excerptbox">{row.excerpt}</blockquote>}
      <dl class="lines">
        {ended && (
          <Line name={w.outcome}>
            {(ended.accepted ? w.accepted : w.rejected)(ended.who.split('@')[0] ?? '')}{' '}
            <Other id={ended.row.id}>↗ {w.later(duration(ended.us))}</Other>
          </Line>
        )}
        <Line name={isDelivery(row) ? w.delivered : w.fetched}>
          <code title={`${row.to}${target}`}>
            {row.method ?? '?'} {book.value.short(row.to)}
            {book.value.short(row.to) === row.to ? '' : '…'}
            {keepEnd(target, 44)}
          </code>
          <span class="into" aria-hidden="true">
            →
          </span>
          <Status row={row} />
          {row.reason && <span class="reason"> {reasonWord(row.reason, w)}</span>}
        </Line>
        <Chain row={row} said={ended?.row.id} key={row.id} />
        {activity && activity.to.length + activity.cc.length > 0 && (
          <Line name={w.addressed}>
            <Addressed activity={activity} />
          </Line>
        )}
        <Line name={w.signature}>
          <SignatureWords row={row} exchange={exchange} />
        </Line>
        {origin && (
          <Line name={w.sentBy}>
            <span title={origin.software ?? undefined}>{[origin.name, origin.host ?? origin.address, origin.software && release(origin.software)].filter(Boolean).join(w.comma)}</span>
            {sources.length > 0 && <span class="dim"> {w.by(sources.map((s) => w.sources[s] ?? s).join(w.comma))}</span>}
          </Line>
        )}
      </dl>
      {exchange && exchange.reading.lints.length > 0 && (
        <ul class="lints" aria-label={w.lints}>
          {exchange.reading.lints.map((lint) => (
            <li class={lint.severity}>
              <b>{w.severities[lint.severity]}</b> <code>{lint.id}</code> {lint.detail}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

// --- timing, around -----------------------------------------------------------------------------------------------

function Timing({ exchange }: { exchange: Exchange }): JSX.Element | null {
  const w = t.value;
  const { request_us, wait_us, response_us, total_us } = exchange.timing;
  const whole = (request_us ?? 0) + (wait_us ?? 0) + (response_us ?? 0);
  if (whole === 0 && total_us === null) return null;
  const share = (us: number | null) => `${Math.max(us === null ? 0 : 0.8, whole === 0 ? 0 : (100 * (us ?? 0)) / whole)}%`;
  return (
    <PanelBox id="timing" title={w.timing} aside={<span class="strong">{total_us === null ? '' : duration(total_us).join(' ')}</span>}>
      <div class="timebar" aria-hidden="true">
        <i class="sent" style={{ flexBasis: share(request_us) }} />
        <i class="wait" style={{ flexBasis: share(wait_us) }} />
        <i class="got" style={{ flexBasis: share(response_us) }} />
      </div>
      <p class="legend">
        {request_us !== null && (
          <span>
            <i class="sent" /> {request_us === 0 ? w.tRequestOne : w.tRequest(duration(request_us))}
          </span>
        )}
        {wait_us !== null && (
          <span>
            <i class="wait" /> {w.tWait(duration(wait_us))}
          </span>
        )}
        {response_us !== null && (
          <span>
            <i class="got" /> {response_us === 0 ? w.tResponseOne : w.tResponse(duration(response_us))}
          </span>
        )}
      </p>
    </PanelBox>
  );
}

function Around({ row }: { row: Row }): JSX.Element | null {
  const w = t.value;
  const rows = around.value;
  if (!rows || rows.length < 2) return null;
  const openOther = (id: string) => (place.peek().page === 'exchange' ? openPage(id) : openDetail(id));
  return (
    <PanelBox id="around" title={w.around}>
      <ol class="around">
        {rows.map((other) => {
          const us = microsBetween(row.started, other.started);
          const mine = other.id === row.id;
          return (
            <li class={mine ? 'mine' : ''}>
              <a
                href={hrefOf(place.value.page === 'exchange' ? { id: other.id } : { sel: other.id })}
                aria-current={mine ? 'true' : undefined}
                onClick={(event) => {
                  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
                  event.preventDefault();
                  if (!mine) openOther(other.id);
                }}
              >
                <span class="delta">{mine ? w.this : `${us < 0 ? '−' : '+'}${duration(Math.abs(us)).join(' ')}`}</span>
                <Badge host={book.value.get(other.from)} label />
                <KindIcon kind={other.kind} />
                <span class={`sentence ${isDelivery(other) ? 'delivery' : ''}`}>
                  <Sentence parts={sentence(other, lang.value, book.value, true)} />
                </span>
                <Status row={other} />
              </a>
            </li>
          );
        })}
      </ol>
    </PanelBox>
  );
}

// --- messages -----------------------------------------------------------------------------------------------------

/** Headers that are shown at first, in the order in which they came. */
const TELLING = /^(host|user-agent|content-length|content-type|content-encoding|accept|accept-encoding|date|digest|content-digest|signature|signature-input|x-forwarded-for|location|retry-after|server|vary|cache-control|www-authenticate|accept-signature|link|set-cookie|authorization|cookie|collection-synchronization|upgrade|transfer-encoding|x-request-id)$/i;
const AT_FIRST = 9;

function Headers({ headers, all }: { headers: readonly Header[]; all: boolean }): JSX.Element {
  const w = t.value;
  const shown = all ? headers : headers.filter(([name]) => name === null || TELLING.test(name)).slice(0, AT_FIRST);
  return (
    <dl class={`headers ${all ? 'all' : ''}`} onPointerOver={(event) => (cursor.at = (event.target as Element).closest<HTMLElement>('.headers > div'))}>
      {shown.map(([name, v]) => (
        <div data-name={name ?? ''} data-value={v ?? ''}>
          <dt>{name ?? <i class="unknown">{w.unknownPart}</i>}</dt>
          <dd title={all ? undefined : (v ?? undefined)}>{v === null ? <i class="unknown">{w.unknownPart}</i> : v}</dd>
        </div>
      ))}
    </dl>
  );
}

function MessagePanel({ d, side }: { d: Detail; side: 'request' | 'response' }): JSX.Element {
  const w = t.value;
  const all = useSignal(false);
  const { exchange } = d;
  const message: Message | null = exchange[side];
  const text = side === 'request' ? d.request_text : d.response_text;
  const line =
    side === 'request'
      ? exchange.request && `${exchange.request.method ?? '?'} ${exchange.request.target ?? '?'}`
      : exchange.response && `${exchange.response.status ?? '?'} ${exchange.response.reason ?? ''}`;
  const facts = message?.body;
  const sizes = facts && (facts.encoding ? w.encodedFrom(facts.encoding, size(facts.wire_size).join(' '), size(facts.size).join(' ')) : facts.size > 0 ? size(facts.size).join(' ') : '');
  return (
    <section class="panel message" id={`panel-${side}`} aria-labelledby={`title-${side}`}>
      <header>
        <h2 id={`title-${side}`} tabIndex={-1}>
          {side === 'request' ? w.request : w.response}
        </h2>
        <code class="first" title={line ?? undefined}>
          {line}
        </code>
        <span class="dim">{sizes}</span>
      </header>
      {message ? (
        <>
          <Headers headers={message.headers} all={all.value} />
          {message.headers.length > 0 && (
            <button type="button" class="link" aria-expanded={all.value} onClick={() => (all.value = !all.value)}>
              {all.value ? w.fewerHeaders : w.allHeaders(message.headers.length)}
            </button>
          )}
          {message.trailers.length > 0 && (
            <>
              <h3>{w.trailers}</h3>
              <Headers headers={message.trailers} all />
            </>
          )}
          {side === 'response' && exchange.interim.length > 0 && (
            <>
              <h3>{w.interim}</h3>
              {exchange.interim.map((i) => (
                <>
                  <code>{i.status}</code>
                  <Headers headers={i.headers} all />
                </>
              ))}
            </>
          )}
          <Body id={exchange.id} side={side} facts={message.body} text={text} />
        </>
      ) : (
        <p class="note">{side === 'request' ? w.requestLost : w.responseLost}</p>
      )}
    </section>
  );
}

function WebSocketPanel({ exchange }: { exchange: Exchange }): JSX.Element | null {
  const w = t.value;
  const ws = exchange.websocket;
  const most = useSignal(100);
  if (!ws) return null;
  return (
    <PanelBox id="websocket" title={w.webSocket} aside={<span class="dim">{grouped(ws.messages.length + ws.messages_dropped)}</span>}>
      <table class="table">
        <thead>
          <tr>
            <th>{w.wsHead.time}</th>
            <th>{w.wsHead.direction}</th>
            <th>{w.wsHead.type}</th>
            <th class="num">{w.wsHead.size}</th>
            <th>{w.wsHead.text}</th>
          </tr>
        </thead>
        <tbody>
          {ws.messages.slice(0, most.value).map((m) => (
            <tr>
              <td class="mono">{clockText(m.time, local.value)}</td>
              <td>
                <span aria-hidden="true">{m.direction === 'to-server' ? '→' : '←'}</span> <span class="off-screen">{w.directions[m.direction]}</span>
              </td>
              <td>{w.wsOpcodes[m.opcode] ?? m.opcode}</td>
              <td class="num">{size(m.size).join(' ')}</td>
              <td class="mono text">
                {m.text ?? ''}
                {!m.complete && <span class="warnink"> {w.incomplete}</span>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {ws.messages.length > most.value && (
        <button type="button" class="more" onClick={() => (most.value += 500)}>
          {w.more} ({grouped(ws.messages.length - most.value)})
        </button>
      )}
      {ws.messages_dropped > 0 && <p class="note">{w.wsMore(ws.messages_dropped)}</p>}
    </PanelBox>
  );
}

// --- signature, bytes ---------------------------------------------------------------------------------------------

const VERDICT_TONE: Record<SignatureVerdict, string> = { valid: '', invalid: 'errink strong', 'key-not-seen': 'warnink', 'not-checkable': '', unsigned: '' };

function SignaturePanel({ exchange, row }: { exchange: Exchange; row: Row }): JSX.Element {
  const w = t.value;
  const s = exchange.reading.signature;
  const parts = useMemo(() => covered(exchange), [exchange]);
  const base = useMemo(() => signingString(exchange), [exchange]);
  const scheme = s.scheme === 'rfc9421' ? 'RFC 9421' : s.scheme === 'cavage' ? 'draft-cavage' : '';
  return (
    <PanelBox
      id="signature"
      title={w.signature}
      aside={
        <>
          <span class="dim grow">{[scheme, s.algorithm].filter(Boolean).join(w.comma)}</span>
          {base && (
            <button type="button" class="link strong" onClick={() => void copy(base)}>
              {w.copySigning}
            </button>
          )}
        </>
      }
    >
      {s.verdict === 'unsigned' ? (
        <p class="note">{w.unsignedWhy}</p>
      ) : (
        <>
          {parts.length > 0 && (
            <ul class="covers" aria-label={w.covers}>
              {parts.map((p) => (
                <li class={/digest/i.test(p.name) && row.digest === 'mismatch' ? 'err' : ''}>
                  <span class="dim">{p.name}:</span> {p.value ?? <i class="unknown">{w.notSent}</i>}
                </li>
              ))}
            </ul>
          )}
          <dl class="lines">
            <Line name={w.verdict}>
              <Signature signature={row.signature} digest={row.digest} gaps={row.gaps} label={false} /> <span class={VERDICT_TONE[s.verdict]}>{w.verdicts[s.verdict]}</span>
            </Line>
            {s.explanation && <Line name={w.why2}>{s.explanation}</Line>}
            {s.key_id && (
              <Line name={w.keyId}>
                <code class="break">{s.key_id}</code>
              </Line>
            )}
          </dl>
        </>
      )}
      <dl class="lines">
        <Line name={w.digest}>
          <span class={row.digest === 'mismatch' ? 'errink strong' : row.digest === 'not-checkable' ? 'warnink' : ''}>{w.digestWords[row.digest]}</span>
        </Line>
      </dl>
    </PanelBox>
  );
}

/** Pieces that are shown at first: a WebSocket may have thousands. */
const PIECES = 12;

function Wire({ exchange }: { exchange: Exchange }): JSX.Element | null {
  const w = t.value;
  const most = useSignal(PIECES);
  const all = useMemo(() => pieces(exchange), [exchange]);
  if (all.length === 0) return null;
  return (
    <>
      <h3 id="title-wire">{w.wire}</h3>
      <table class="wire" aria-labelledby="title-wire">
        <thead class="off-screen">
          <tr>
            <th>{w.wireHead.time}</th>
            <th>{w.wsHead.direction}</th>
            <th>{w.wireHead.what}</th>
            <th>{w.wireHead.size}</th>
          </tr>
        </thead>
        <tbody>
          {all.slice(0, most.value).map((piece) => (
            <tr class={piece.what === 'gap' ? 'warnink' : undefined}>
              <td class="mono" title={piece.at ?? undefined}>
                {piece.at === null ? '' : `${clockText(piece.at, local.value).slice(6, 8)}.${piece.at.replace(/^.*\.(\d{1,6}).*$/, '$1').padEnd(6, '0')}`}
              </td>
              <td>
                <span aria-hidden="true">{piece.direction === 'to-server' ? '→' : '←'}</span>
                <span class="off-screen">{w.directions[piece.direction]}</span>
              </td>
              <td>{w.pieces[piece.what]?.(piece.note ?? '')}</td>
              <td class="mono num">{piece.octets === null ? '' : grouped(piece.octets)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {all.length > most.value && (
        <button type="button" class="more" onClick={() => (most.value += 500)}>
          {w.more} ({grouped(all.length - most.value)})
        </button>
      )}
      <p class="note">{w.wireNote}</p>
    </>
  );
}

function BytesPanel({ exchange }: { exchange: Exchange }): JSX.Element {
  const w = t.value;
  // This exchange and no other: its start and its client.
  const alone = { q: `client.address == ${JSON.stringify(exchange.client.address)}`, v: 'all', from: exchange.started, to: timeOf(nanos(exchange.started) + 1n) } as const;
  const hash = (sha: string | null | undefined) =>
    sha && (
      <>
        {' '}
        <span class="dim">{w.sha}</span> <code class="break">{sha}</code>
      </>
    );
  return (
    <PanelBox
      id="bytes"
      title={w.bytes}
      aside={
        <a class="link strong" href={api.exportAddress('pcapng', alone)} download="">
          {w.pcapng}
        </a>
      }
    >
      <dl class="lines wide">
        <Line name={w.clearSide}>
          <code>
            {exchange.client.address} <span aria-hidden="true">→</span> {exchange.server.address}
          </code>
        </Line>
        <Line name={w.protocol}>{exchange.protocol}</Line>
        {exchange.interface && <Line name={w.interface}>{exchange.interface}</Line>}
        {exchange.node && <Line name={w.node}>{exchange.node}</Line>}
        {exchange.request && exchange.request.body.size > 0 && (
          <Line name={w.sentBytes}>
            {grouped(exchange.request.body.size)} B{hash(exchange.request.body.sha256)}
          </Line>
        )}
        {exchange.response && exchange.response.body.size > 0 && (
          <Line name={w.answeredBytes}>
            {grouped(exchange.response.body.size)} B{hash(exchange.response.body.sha256)}
          </Line>
        )}
        {exchange.anomalies.length > 0 && (
          <Line name={w.anomalies}>
            {exchange.anomalies.map((a) => (
              <div>
                <code>{a.id}</code> {a.detail}
              </div>
            ))}
          </Line>
        )}
      </dl>
      <Wire exchange={exchange} />
    </PanelBox>
  );
}

// --- put together -------------------------------------------------------------------------------------------------

const TROUBLE_FIRST = (row: Row) => isDelivery(row) && (row.signature === 'invalid' || row.digest === 'mismatch' || (row.signature === 'not-checkable' && row.gaps > 0) || (row.signature === 'key-not-seen' && (row.status ?? 0) >= 400));

export function showPanel(panel: Panel): void {
  if (place.peek().page === 'exchange') go({ panel }, 'replace');
  tab.value = panel;
  // The panel may still be loading.
  const end = performance.now() + 2000;
  const show = () => {
    const title = document.getElementById(`title-${panel}`);
    if (!title) return void (performance.now() < end && requestAnimationFrame(show));
    title.scrollIntoView({ block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
    title.focus({ preventScroll: true });
  };
  requestAnimationFrame(show);
}

/** Width of the detail, percent of the page, where the reader chose one; from 420 px to 60 %. Kept per browser. */
const width = signal<number | null>(Number(localStorage.getItem('fedisniff.detail')) || null);
const DEFAULT_WIDTH = 42;

function Resize(): JSX.Element {
  const set = (percent: number) => {
    width.value = Math.min(60, Math.max((100 * 420) / innerWidth, percent));
    localStorage.setItem('fedisniff.detail', width.value.toFixed(2));
  };
  const reset = () => {
    width.value = null;
    localStorage.removeItem('fedisniff.detail');
  };
  const now = width.value ?? DEFAULT_WIDTH;
  return (
    <div
      class="resize"
      role="separator"
      aria-orientation="vertical"
      aria-label={t.value.resize}
      aria-valuemin={20}
      aria-valuemax={60}
      aria-valuenow={Math.round(now)}
      tabIndex={0}
      onPointerDown={(event) => {
        event.preventDefault();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => event.currentTarget.hasPointerCapture(event.pointerId) && set((100 * (innerWidth - event.clientX)) / innerWidth)}
      onDblClick={reset}
      onKeyDown={(event) => {
        if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
        event.preventDefault();
        set(now + (event.key === 'ArrowLeft' ? 1 : -1));
      }}
    />
  );
}

const tab = signal<Panel>('request');
const TABS: Panel[] = ['request', 'response', 'signature', 'around', 'bytes'];

function PhonePanels({ d, row }: { d: Detail; row: Row }): JSX.Element {
  const w = t.value;
  const now = TABS.includes(tab.value) ? tab.value : 'request';
  return (
    <>
      <div class="tabs" role="tablist">
        {TABS.map((panel) => (
          <button type="button" role="tab" aria-selected={panel === now} onClick={() => (tab.value = panel)}>
            {w.panels[panel]}
          </button>
        ))}
      </div>
      {now === 'request' && <MessagePanel d={d} side="request" />}
      {now === 'response' && (
        <>
          <MessagePanel d={d} side="response" />
          <WebSocketPanel exchange={d.exchange} />
        </>
      )}
      {now === 'signature' && <SignaturePanel exchange={d.exchange} row={row} />}
      {now === 'around' && <Around row={row} />}
      {now === 'bytes' && <BytesPanel exchange={d.exchange} />}
    </>
  );
}

/** What to show when the exchange is not there (yet). */
function Missing(): JSX.Element | null {
  const w = t.value;
  const error = detailError.value;
  if (!error) return null;
  return (
    <div class="panel">
      <p class="note errink">{error.code === 'not-found' || error.code === 'bad-request' ? w.notFound : `${w.detailFailed} ${error.message}`}</p>
    </div>
  );
}

/** The detail beside the list; over it where there is no room; the whole screen on a phone. */
export function DetailPane(): JSX.Element | null {
  const w = t.value;
  const row = openRow.value;
  const id = openId.value;
  const d = detail.value?.row.id === id ? detail.value : null;
  if (!id) return null;
  return (
    <aside class="detail" aria-label={row ? plain(sentence(row, lang.value, book.value)) : w.panels.reading} style={middling.value ? {} : { width: width.value === null ? (wide.value ? `min(42vw, max(420px, 100vw - ${fullWidth.value + 2}px))` : '42vw') : `${width.value}vw` }}>
      {!middling.value && <Resize />}
      <div class="detailhead">
        {narrow.value ? (
          <Tool icon="left" label={w.backToList} act={closeDetail} />
        ) : (
          <>
            <Tool icon="left" label={w.previous} act={() => void move(-1)} />
            <Tool icon="right" label={w.next} act={() => void move(1)} />
          </>
        )}
        {row && (
          <time class="mono" dateTime={row.started} title={row.started}>
            <Time at={row.started} />
          </time>
        )}
        <span class="grow" />
        <Tools id={id} page={false} />
      </div>
      <div class="detailbody" key={id}>
        <Missing />
        {row && <Reading row={row} d={d} />}
        {row && d && narrow.value && (
          <>
            <Timing exchange={d.exchange} />
            <PhonePanels d={d} row={row} />
          </>
        )}
        {row && d && !narrow.value && (
          <>
            {TROUBLE_FIRST(row) && <SignaturePanel exchange={d.exchange} row={row} />}
            <Timing exchange={d.exchange} />
            <Around row={row} />
            <div class="messages">
              <MessagePanel d={d} side="request" />
              <MessagePanel d={d} side="response" />
            </div>
            <WebSocketPanel exchange={d.exchange} />
            {!TROUBLE_FIRST(row) && <SignaturePanel exchange={d.exchange} row={row} />}
            <BytesPanel exchange={d.exchange} />
          </>
        )}
      </div>
    </aside>
  );
}

/** The page `/e/ID`. */
export function ExchangePage(): JSX.Element {
  const w = t.value;
  const { id, panel } = place.value;
  const row = openRow.value;
  const d = detail.value?.row.id === id ? detail.value : null;
  useEffect(() => {
    if (d && panel) showPanel(panel);
  }, [d === null, id]);
  return (
    <main class="page">
      <div class="pagehead">
        <Tool icon="left" label={w.backToList} href={hrefOf({ page: 'list', sel: id, id: '', panel: null })} act={leavePage} />
        <a
          class="crumb"
          href={hrefOf({ page: 'list', sel: id, id: '', panel: null })}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            leavePage();
          }}
        >
          {w.exchanges}
        </a>
        <span class="dim">/</span>
        {row && (
          <time class="mono" dateTime={row.started} title={row.started}>
            {clockText(row.started, local.value)}
          </time>
        )}
        <span class="grow" />
        <Tools id={id} page />
      </div>
      <Missing />
      {row && d && narrow.value && (
        <div class="columns">
          <div class="column">
            <Reading row={row} d={d} />
            <Timing exchange={d.exchange} />
            <PhonePanels d={d} row={row} />
          </div>
        </div>
      )}
      {row && d && !narrow.value && (
        <div class="columns">
          <div class="column">
            <Reading row={row} d={d} />
            <Timing exchange={d.exchange} />
            <Around row={row} />
            <BytesPanel exchange={d.exchange} />
          </div>
          <div class="column">
            <MessagePanel d={d} side="request" />
          </div>
          <div class="column">
            <MessagePanel d={d} side="response" />
            <WebSocketPanel exchange={d.exchange} />
            <SignaturePanel exchange={d.exchange} row={row} />
          </div>
        </div>
      )}
    </main>
  );
}

export const panelOfKey = (key: string): Panel | null => PANELS[Number(key) - 1] ?? null;

// An exchange's request as a command for a POSIX shell. Pure. What the proxy added and what curl says itself is left
// out; secrets arrive masked and stay masked.

import type { Exchange } from '../api';

/** Quotes for a POSIX shell. */
export function quote(text: string): string {
  return /^[A-Za-z0-9_/.:=@%+,-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;
}

const LEFT_OUT = /^(host|content-length|connection|transfer-encoding|x-forwarded-.*|x-real-ip|forwarded|via)$/i;

export function curl(exchange: Exchange, body: string | null): string | null {
  const request = exchange.request;
  if (!request?.target) return null;
  const forwarded = request.headers.find(([name]) => name?.toLowerCase() === 'x-forwarded-proto')?.[1];
  const address = /^https?:\/\//.test(request.target) ? request.target : `${forwarded === 'https' ? 'https' : 'http'}://${request.host ?? exchange.server.address}${request.target}`;
  const parts = ['curl', '-i'];
  const method = request.method ?? 'GET';
  if (method === 'HEAD') parts.push('-I');
  else if (method !== (body ? 'POST' : 'GET')) parts.push('-X', quote(method));
  parts.push(quote(address));
  for (const [name, value] of request.headers) {
    if (name === null || value === null || LEFT_OUT.test(name)) continue;
    if (name.toLowerCase() === 'accept-encoding') parts.push('--compressed');
    else parts.push('-H', quote(`${name}: ${value}`));
  }
  if (body) parts.push('--data-binary', quote(body));
  return parts.join(' ');
}

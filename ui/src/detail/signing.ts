// What a signature covers, with the values that were signed, and the signing string of draft-cavage (§2.3). Pure.
// RFC 9421 bases need parameters that only the verifier has, so no base is offered for them.

import type { Exchange } from '../api';

export interface Covered {
  name: string;
  /** `null` when the part is not among what was sent. */
  value: string | null;
}

export function covered(exchange: Exchange): Covered[] {
  const request = exchange.request;
  if (!request) return [];
  const value = (name: string): string | null => {
    const bare = name.replace(/^"|".*$/g, '').toLowerCase();
    switch (bare) {
      case '(request-target)':
        return request.method === null || request.target === null ? null : `${request.method.toLowerCase()} ${request.target}`;
      case '@method':
        return request.method;
      case '@target-uri':
        return request.target === null ? null : `https://${request.host ?? ''}${request.target}`;
      case '@authority':
        return request.host?.toLowerCase() ?? null;
      case '@path':
        return request.target?.split('?')[0] ?? null;
      case '@query':
        return request.target === null ? null : `?${request.target.split('?')[1] ?? ''}`;
      case '@request-target':
        return request.target;
      case '@scheme':
        return 'https';
      case '(created)':
      case '(expires)': {
        const header = request.headers.find(([n]) => /^(signature|authorization)$/i.test(n ?? ''))?.[1] ?? '';
        return new RegExp(`${bare.slice(1, -1)}="?(\\d+)`).exec(header)?.[1] ?? null;
      }
    }
    const values = request.headers.filter(([n]) => n?.toLowerCase() === bare).map(([, v]) => v);
    if (values.length === 0 && bare === 'host') return request.host;
    return values.length === 0 || values.includes(null) ? null : values.map((v) => (v ?? '').trim()).join(', ');
  };
  return exchange.reading.signature.covered.map((name) => ({ name, value: value(name) }));
}

/** The string that was signed, or `null` where it cannot be said exactly. */
export function signingString(exchange: Exchange): string | null {
  if (exchange.reading.signature.scheme !== 'cavage') return null;
  const parts = covered(exchange);
  if (parts.length === 0 || parts.some((p) => p.value === null)) return null;
  return parts.map((p) => `${p.name.toLowerCase()}: ${p.value}`).join('\n');
}

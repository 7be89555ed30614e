// What a server was asked and what it answered, one JSON line an exchange, written when the answer has been handed to
// the kernel: bodies as they travelled, with their length and SHA-256, and also with the content coding removed. This
// is the truth that a listener is compared with, so it comes from the server's own hands and never from the wire.
import { createHash } from "node:crypto";
import { openSync, writeSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const CODERS = { br: brotliCompressSync, gzip: gzipSync };

export class AccessLog {
  #file;
  #host;
  #preferred;
  /** Exchanges that have begun and are not in the log yet. */
  open = 0;

  /** `preferred` is the content coding that this server gives to clients who take both: `br` or `gzip`. */
  constructor(path, host, preferred) {
    this.#file = openSync(path, "a");
    this.#host = host;
    this.#preferred = preferred;
  }

  /** Reads the request, lets `answer` (a fetch handler) answer it, codes the body, sends and logs. */
  async exchange(request, response, answer) {
    this.open += 1;
    const begun = Date.now();
    const sent = [];
    const line = {
      ts: new Date(begun).toISOString(),
      server: this.#host,
      http: request.httpVersion,
      peer: `${request.socket.remoteAddress?.replace(/^::ffff:/, "")}:${request.socket.remotePort}`,
      method: request.method,
      host: request.headers[":authority"] ?? request.headers.host,
      path: request.url,
      req_headers: request.rawHeaders,
    };
    response.once("close", () => {
      line.complete = response.writableFinished;
      line.dur_ms = Date.now() - begun;
      writeSync(this.#file, `${JSON.stringify(line)}\n`);
      this.open -= 1;
    });
    try {
      for await (const piece of request) sent.push(piece);
      const asked = Buffer.concat(sent);
      Object.assign(line, { req_body_len: asked.length, req_body_sha256: sha256(asked) });

      const answered = await answer(toFetch(request, line.host, asked));
      const plain = Buffer.from(await answered.arrayBuffer());
      const headers = Object.fromEntries(answered.headers);
      const coding = plain.length > 0 ? this.#coding(request.headers["accept-encoding"] ?? "") : null;
      const coded = coding ? CODERS[coding](plain) : plain;
      if (coding) headers["content-encoding"] = coding;
      headers.vary = [headers.vary, "Accept-Encoding"].filter(Boolean).join(", ");
      headers["content-length"] = String(coded.length);
      // HEAD is answered with the headers of GET, and nothing travels.
      const body = request.method === "HEAD" ? Buffer.alloc(0) : coded;
      Object.assign(line, {
        status: answered.status,
        resp_headers: headers,
        resp_body_len: body.length,
        resp_body_sha256: sha256(body),
        resp_decoded_len: request.method === "HEAD" ? 0 : plain.length,
        resp_decoded_sha256: sha256(request.method === "HEAD" ? body : plain),
        content_encoding: coding,
      });
      response.writeHead(answered.status, headers);
      response.end(body);
    } catch (error) {
      console.error(`${line.method} ${line.path}:`, error);
      line.error = String(error);
      response.destroy?.();
      response.stream?.destroy();
    }
  }

  #coding(accepted) {
    const offered = accepted.split(",").map((one) => one.trim().split(";")[0]);
    return [this.#preferred, "br", "gzip"].find((coding) => offered.includes(coding)) ?? null;
  }
}

/** The request as fetch knows it, under the address that the proxy was asked for. */
function toFetch(request, host, body) {
  const headers = new Headers();
  for (let at = 0; at + 1 < request.rawHeaders.length; at += 2) {
    const [name, value] = [request.rawHeaders[at], request.rawHeaders[at + 1]];
    if (!name.startsWith(":")) headers.append(name, value);
  }
  // HTTP/2 has no Host, and signatures cover it.
  if (!headers.has("host")) headers.set("host", host);
  const bodiless = request.method === "GET" || request.method === "HEAD";
  return new Request(`https://${host}${request.url}`, {
    method: request.method,
    headers,
    body: bodiless ? undefined : body,
  });
}

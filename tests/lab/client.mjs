// The lab's client pod: a program that is no fediverse server. It fetches as it is told, over HTTPS through the
// ingress, and delivers activities whose signature is wrong.
import { createHash, randomBytes } from "node:crypto";
import { Agent, request as https } from "node:https";
import { parseArgs } from "node:util";

import { serveControl } from "./control.mjs";

const { values: options } = parseArgs({ options: { control: { type: "string" } } });
const agent = new Agent({ keepAlive: true });

function exchange(url, { method = "GET", headers = {}, body, alone = false }) {
  return new Promise((resolve, reject) => {
    // `alone`: on a connection of its own, closed afterwards.
    const asked = https(url, { method, headers, agent: alone ? false : agent, timeout: 15_000 }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("error", reject);
      answer.on("end", () => {
        const bytes = Buffer.concat(pieces);
        resolve({
          status: answer.statusCode,
          coding: answer.headers["content-encoding"] ?? null,
          length: bytes.length,
          sha256: createHash("sha256").update(bytes).digest("hex"),
        });
      });
    });
    asked.on("timeout", () => asked.destroy(new Error(`no answer from ${url}`)));
    asked.on("error", reject);
    asked.end(body);
  });
}

serveControl(options.control, {
  fetch: ({ url, method, headers, alone }) => exchange(url, { method, headers, alone }),

  /** Delivers a Like under somebody else's key, with a signature that is only noise. */
  forge: ({ inbox, actor, object }) => {
    const body = Buffer.from(JSON.stringify({
      "@context": "https://www.w3.org/ns/activitystreams",
      id: `${actor}#likes/${randomBytes(8).toString("hex")}`,
      type: "Like",
      actor,
      object,
    }));
    const signature = randomBytes(256).toString("base64");
    return exchange(inbox, {
      method: "POST",
      body,
      headers: {
        "Content-Type": "application/activity+json",
        "Content-Length": body.length,
        Date: new Date().toUTCString(),
        Digest: `SHA-256=${createHash("sha256").update(body).digest("base64")}`,
        Signature: `keyId="${actor}#main-key",algorithm="rsa-sha256",`
          + `headers="(request-target) host date digest",signature="${signature}"`,
        "User-Agent": "fedisniff-lab-client/1.0.0",
      },
    });
  },

  state: () => ({ pending: 0 }),
});

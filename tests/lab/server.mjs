// A small fediverse server on Fedify, for the lab: one account, everything in memory, gone with the process. It speaks
// ActivityPub on port 3000 (HTTP/1.1) and 3002 (h2c), both in the clear, as a server behind a reverse proxy does. What
// it was asked and what it answered goes to --log, a JSON line an exchange; what it shall do comes over the Unix socket
// --control. It never speaks to a person.
import { randomUUID, webcrypto } from "node:crypto";
import { createServer as createHttp1 } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { parseArgs } from "node:util";

import {
  createFederation,
  generateCryptoKeyPair,
  InProcessMessageQueue,
  MemoryKvStore,
} from "@fedify/fedify";
import {
  Accept,
  Announce,
  Create,
  Delete,
  Endpoints,
  Follow,
  Like,
  Note,
  Person,
  PUBLIC_COLLECTION,
  Tombstone,
  Undo,
} from "@fedify/vocab";
import { Temporal } from "@js-temporal/polyfill";
import { configure, getConsoleSink } from "@logtape/logtape";

import { AccessLog } from "./access-log.mjs";
import { serveControl } from "./control.mjs";

const { values: options } = parseArgs({
  options: {
    host: { type: "string" },
    user: { type: "string" },
    software: { type: "string" },
    log: { type: "string" },
    control: { type: "string" },
    coding: { type: "string", default: "gzip" },
    knock: { type: "string", default: "rfc9421" },
  },
});
const { host, user, software } = options;

await configure({
  sinks: { console: getConsoleSink() },
  loggers: [
    { category: "fedify", lowestLevel: "warning", sinks: ["console"] },
    { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["console"] },
  ],
});

// -- The account -------------------------------------------------------------------------------------------------------

// 2048 bits: Fedify's own generator takes 4096, which costs a second or more at each start.
const rsa = await webcrypto.subtle.generateKey(
  { name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" },
  true,
  ["sign", "verify"],
);
const keys = [rsa, await generateCryptoKeyPair("Ed25519")];
const followers = new Map();
const following = new Set();
/** What this account asked for: the Follow's id, and whom. */
const asked = new Map();
const notes = new Map();
const deleted = new Set();
const received = [];
const waiting = new Set();

function note(ctx, id) {
  const { content, published, replyTo } = notes.get(id);
  return new Note({
    id: ctx.getObjectUri(Note, { identifier: user, id }),
    attribution: ctx.getActorUri(user),
    to: PUBLIC_COLLECTION,
    cc: ctx.getFollowersUri(user),
    content,
    published,
    replyTarget: replyTo ? new URL(replyTo) : null,
  });
}

const create = (ctx, id) => {
  const object = note(ctx, id);
  return new Create({
    id: new URL(`${object.id.href}#create`),
    actor: ctx.getActorUri(user),
    to: PUBLIC_COLLECTION,
    cc: ctx.getFollowersUri(user),
    object,
  });
};

// -- Federation --------------------------------------------------------------------------------------------------------

/** Fedify's queue in memory, which can say whether anything is left to do. */
class CountedQueue {
  #queue = new InProcessMessageQueue({ pollInterval: { milliseconds: 200 } });
  pending = 0;

  async enqueue(message, options) {
    this.pending += 1;
    await this.#queue.enqueue(message, options);
  }

  listen(handler, options) {
    const counted = async (message) => {
      try {
        await handler(message);
      } finally {
        this.pending -= 1;
      }
    };
    return this.#queue.listen(counted, options);
  }
}

const queue = new CountedQueue();
const federation = createFederation({
  kv: new MemoryKvStore(),
  queue,
  origin: `https://${host}`,
  // Every address of the lab is a private one; elsewhere Fedify rightly refuses them.
  allowPrivateAddress: true,
  firstKnock: options.knock,
  userAgent: { software: `${software}/1.0.0`, url: `https://${host}/` },
});

federation
  .setActorDispatcher("/users/{identifier}", async (ctx, identifier) => {
    if (identifier !== user) return null;
    const pairs = await ctx.getActorKeyPairs(identifier);
    return new Person({
      id: ctx.getActorUri(identifier),
      preferredUsername: identifier,
      name: `${identifier} of ${software}`,
      summary: "An account of fedisniff's lab",
      url: new URL(`https://${host}/@${identifier}`),
      inbox: ctx.getInboxUri(identifier),
      outbox: ctx.getOutboxUri(identifier),
      followers: ctx.getFollowersUri(identifier),
      following: ctx.getFollowingUri(identifier),
      endpoints: new Endpoints({ sharedInbox: ctx.getInboxUri() }),
      publicKey: pairs[0].cryptographicKey,
      assertionMethods: pairs.map((pair) => pair.multikey),
    });
  })
  .setKeyPairsDispatcher((_ctx, identifier) => (identifier === user ? keys : []))
  .mapHandle((_ctx, name) => (name === user ? user : null));

federation.setObjectDispatcher(Note, "/users/{identifier}/notes/{id}", (ctx, { identifier, id }) => {
  if (identifier !== user) return null;
  return notes.has(id) ? note(ctx, id) : null;
});

federation.setFollowersDispatcher("/users/{identifier}/followers", (_ctx, identifier) =>
  identifier === user ? { items: [...followers.values()] } : null);
federation.setFollowingDispatcher("/users/{identifier}/following", (_ctx, identifier) =>
  identifier === user ? { items: [...following].map((id) => new URL(id)) } : null);
federation.setOutboxDispatcher("/users/{identifier}/outbox", (ctx, identifier) =>
  identifier === user ? { items: [...notes.keys()].map((id) => create(ctx, id)) } : null);

federation.setNodeInfoDispatcher("/nodeinfo/2.1", () => ({
  software: { name: software, version: "1.0.0" },
  protocols: ["activitypub"],
  usage: { users: { total: 1, activeMonth: 1, activeHalfyear: 1 }, localPosts: notes.size, localComments: 0 },
}));

function remember(activity) {
  const one = {
    ts: new Date().toISOString(),
    type: activity.constructor.name,
    id: activity.id?.href,
    actor: activity.actorId?.href,
    object: activity.objectId?.href,
  };
  received.push(one);
  for (const waiter of waiting) waiter(one);
}

federation
  .setInboxListeners("/users/{identifier}/inbox", "/inbox")
  .on(Follow, async (ctx, follow) => {
    const follower = await follow.getActor(ctx);
    if (!follower?.id || !follow.id) return;
    followers.set(follower.id.href, follower);
    remember(follow);
    const accept = new Accept({
      id: new URL(`https://${host}/activities/accept/${randomUUID()}`),
      actor: ctx.getActorUri(user),
      object: follow,
    });
    await ctx.sendActivity({ identifier: user }, follower, accept);
  })
  .on(Accept, (_ctx, accept) => {
    const whom = asked.get(accept.objectId?.href);
    if (whom && whom === accept.actorId?.href) following.add(whom);
    remember(accept);
  })
  .on(Undo, async (ctx, undo) => {
    const undone = await undo.getObject(ctx);
    if (undone instanceof Follow && undo.actorId) followers.delete(undo.actorId.href);
    remember(undo);
  })
  .on(Create, (_ctx, activity) => remember(activity))
  .on(Like, (_ctx, activity) => remember(activity))
  .on(Announce, (_ctx, activity) => remember(activity))
  .on(Delete, (_ctx, activity) => remember(activity))
  .onError((_ctx, error) => console.error("inbox:", error));

// -- The ports ---------------------------------------------------------------------------------------------------------

const log = new AccessLog(options.log, host, options.coding);

async function answer(request) {
  const { pathname } = new URL(request.url);
  // For the one who waits until the proxy and this server are ready.
  if (pathname === "/ready") return new Response("ready\n");
  if (deleted.has(pathname)) {
    const tombstone = await new Tombstone({ id: new URL(pathname, `https://${host}`) }).toJsonLd();
    return Response.json(tombstone, { status: 410, headers: { "Content-Type": "application/activity+json" } });
  }
  return await federation.fetch(request, { contextData: undefined });
}

const listening = [
  createHttp1((request, response) => log.exchange(request, response, answer)).listen(3000, "::"),
  createHttp2((request, response) => log.exchange(request, response, answer)).listen(3002, "::"),
];

// -- What it is told to do ---------------------------------------------------------------------------------------------

const context = () => federation.createContext(new URL(`https://${host}`), undefined);

async function actorOf(ctx, id) {
  const documentLoader = await ctx.getDocumentLoader({ identifier: user });
  const actor = await ctx.lookupObject(id, { documentLoader });
  if (!actor?.id || !actor.inboxId) throw new Error(`no actor: ${id}`);
  return actor;
}

async function send(ctx, recipients, activity) {
  await ctx.sendActivity({ identifier: user }, recipients, activity, { preferSharedInbox: recipients === "followers" });
  return { id: activity.id.href };
}

/** An activity of this account towards a note of somebody else. */
async function towards(Type, kind, noteId) {
  const ctx = context();
  const documentLoader = await ctx.getDocumentLoader({ identifier: user });
  const object = await ctx.lookupObject(noteId, { documentLoader });
  if (!(object instanceof Note)) throw new Error(`no note: ${noteId}`);
  const author = await object.getAttribution({ ...ctx, documentLoader });
  const id = new URL(`https://${host}/activities/${kind}/${randomUUID()}`);
  const to = kind === "announce" ? { to: PUBLIC_COLLECTION, cc: author.id } : { to: author.id };
  return await send(ctx, author, new Type({ id, actor: ctx.getActorUri(user), object: object.id, ...to }));
}

async function undo(kind, Type, { activity, object, to }) {
  const ctx = context();
  const recipient = await actorOf(ctx, to);
  const actor = ctx.getActorUri(user);
  return await send(ctx, recipient, new Undo({
    id: new URL(`https://${host}/activities/undo/${randomUUID()}`),
    actor,
    object: new Type({ id: new URL(activity), actor, object: new URL(object) }),
  }));
}

const commands = {
  async lookup({ what }) {
    const found = await actorOf(context(), what);
    return { id: found.id.href };
  },

  async follow({ who }) {
    const ctx = context();
    const actor = await actorOf(ctx, who);
    const id = new URL(`https://${host}/activities/follow/${randomUUID()}`);
    asked.set(id.href, actor.id.href);
    return await send(ctx, actor, new Follow({ id, actor: ctx.getActorUri(user), object: actor.id, to: actor.id }));
  },

  async unfollow({ who, activity }) {
    following.delete(who);
    asked.delete(activity);
    return await undo("follow", Follow, { activity, object: who, to: who });
  },

  async post({ content, replyTo }) {
    const ctx = context();
    const id = randomUUID();
    notes.set(id, { content, replyTo, published: Temporal.Now.instant() });
    const activity = create(ctx, id);
    await send(ctx, "followers", activity);
    return { id: activity.id.href, note: ctx.getObjectUri(Note, { identifier: user, id }).href };
  },

  like: ({ note }) => towards(Like, "like", note),
  announce: ({ note }) => towards(Announce, "announce", note),
  undoLike: ({ activity, note, to }) => undo("like", Like, { activity, object: note, to }),

  async delete({ note }) {
    const ctx = context();
    const { pathname } = new URL(note);
    notes.delete(pathname.split("/").pop());
    deleted.add(pathname);
    return await send(ctx, "followers", new Delete({
      id: new URL(`${note}#delete`),
      actor: ctx.getActorUri(user),
      to: PUBLIC_COLLECTION,
      object: new Tombstone({ id: new URL(note) }),
    }));
  },

  /** Waits until an activity has come in: by its id, or by type and actor among those after the `since`th. */
  received: ({ type, actor, id, since = 0, seconds = 15 }) =>
    new Promise((resolve, reject) => {
      const fits = (one) =>
        (!type || one.type === type) && (!actor || one.actor === actor) && (!id || one.id === id);
      const there = received.slice(since).find(fits);
      if (there) {
        resolve(there);
        return;
      }
      const waiter = (one) => {
        if (!fits(one)) return;
        clearTimeout(timer);
        waiting.delete(waiter);
        resolve(one);
      };
      const timer = setTimeout(() => {
        waiting.delete(waiter);
        const asked = id ?? `${type} of ${actor}`;
        reject(new Error(`${asked} did not come within ${seconds} s`));
      }, seconds * 1000);
      waiting.add(waiter);
    }),

  /** What it knows and what is left to do. */
  state: () => ({
    followers: [...followers.keys()],
    following: [...following],
    notes: notes.size,
    received: received.length,
    pending: queue.pending + log.open,
  }),
};

await Promise.all(listening.map((server) => new Promise((resolve) => server.once("listening", resolve))));
// Last: whoever can connect here may rely on the ports.
serveControl(options.control, commands);

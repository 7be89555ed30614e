// JSON as a flat list of lines, as written: numbers keep their digits, keys their order, and doubles stay. Not
// recursive, so depth costs nothing. Pure.

export type JsonKind = 'object' | 'array' | 'string' | 'number' | 'literal';

export interface JsonNode {
  kind: JsonKind;
  depth: number;
  /** The key in its object, or the place in its array; `null` for the root. */
  key: string | number | null;
  /** A string's characters, else the text as written; empty for containers. */
  value: string;
  parent: number;
  /** How many members a container has. */
  size: number;
  /** The first node after this one and all inside it. */
  end: number;
}

/** Nodes of a JSON text in order, or `null` when it is not JSON (RFC 8259). */
export function parseJson(text: string): JsonNode[] | null {
  const nodes: JsonNode[] = [];
  const open: number[] = [];
  let i = 0;
  const blank = () => {
    while (i < text.length && ' \t\n\r'.includes(text[i]!)) i++;
  };
  const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
  const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = i;
    const m = pattern.exec(text);
    if (!m) return null;
    i = pattern.lastIndex;
    return m[0];
  };
  let key: string | null = null;
  for (;;) {
    // A value.
    blank();
    const parent = open.at(-1) ?? -1;
    const owner = nodes[parent];
    const node: JsonNode = { kind: 'literal', depth: open.length, key: owner ? (owner.kind === 'array' ? owner.size : key) : null, value: '', parent, size: 0, end: 0 };
    const c = text[i];
    if (c === '{' || c === '[') {
      i++;
      node.kind = c === '{' ? 'object' : 'array';
    } else if (c === '"') {
      const raw = take(STRING);
      if (raw === null) return null;
      node.kind = 'string';
      node.value = JSON.parse(raw) as string;
    } else {
      const raw = take(SCALAR);
      if (raw === null) return null;
      node.kind = /^[tfn]/.test(raw) ? 'literal' : 'number';
      node.value = raw;
    }
    if (owner) owner.size++;
    const mine = nodes.push(node) - 1;
    node.end = mine + 1;
    const container = node.kind === 'object' || node.kind === 'array';
    if (container) open.push(mine);
    // What may follow it.
    let expectValue = false;
    if (container) {
      blank();
      if (text[i] !== (node.kind === 'object' ? '}' : ']')) expectValue = true;
    }
    while (!expectValue) {
      blank();
      const at = open.at(-1);
      if (at === undefined) return i === text.length ? nodes : null;
      const inside = nodes[at]!;
      const close = inside.kind === 'object' ? '}' : ']';
      if (text[i] === close) {
        i++;
        inside.end = nodes.length;
        open.pop();
      } else if (text[i] === ',' && inside.size > 0) {
        i++;
        expectValue = true;
      } else return null;
    }
    const at = nodes[open.at(-1)!]!;
    if (at.kind === 'object') {
      blank();
      const raw = take(STRING);
      if (raw === null) return null;
      key = JSON.parse(raw) as string;
      blank();
      if (text[i++] !== ':') return null;
    }
  }
}

/** A line of the tree: a node, or the closing bracket of one. */
export interface Line {
  node: number;
  closes: boolean;
}

/** The lines that are seen when `folded` are closed. */
export function lines(nodes: readonly JsonNode[], folded: ReadonlySet<number>): Line[] {
  const out: Line[] = [];
  const open: number[] = [];
  for (let i = 0; i <= nodes.length; i++) {
    while (open.length > 0 && nodes[open.at(-1)!]!.end === i) out.push({ node: open.pop()!, closes: true });
    const node = nodes[i];
    if (!node) break;
    out.push({ node: i, closes: false });
    if (node.kind === 'object' || node.kind === 'array') {
      if (node.size === 0 || folded.has(i)) i = node.end - 1;
      else open.push(i);
    }
  }
  return out;
}

/** What is folded at first: contexts, which are long and always the same, and what is deep. */
export function foldedAtFirst(nodes: readonly JsonNode[]): Set<number> {
  const folded = new Set<number>();
  const small = nodes.length <= 60;
  nodes.forEach((node, i) => {
    if (node.kind !== 'object' && node.kind !== 'array') return;
    if (node.size === 0) return;
    if (node.key === '@context' || (!small && node.depth >= 3) || (node.depth > 0 && node.end - i > 400)) folded.add(i);
  });
  return folded;
}

/** Where a node is, as a path that jq takes: `.object.tag[0].href`. */
export function path(nodes: readonly JsonNode[], at: number): string {
  const steps: string[] = [];
  for (let i = at; i >= 0; ) {
    const node = nodes[i];
    if (!node) break;
    if (typeof node.key === 'number') steps.push(`[${node.key}]`);
    else if (node.key !== null) steps.push(/^[A-Za-z_]\w*$/.test(node.key) ? `.${node.key}` : `[${JSON.stringify(node.key)}]`);
    i = node.parent;
  }
  const text = steps.reverse().join('');
  return text.startsWith('.') ? text : `.${text}`;
}

/** The text of a node: a scalar's value, a container's JSON. */
export function textOf(nodes: readonly JsonNode[], at: number): string {
  const node = nodes[at];
  if (!node) return '';
  if (node.kind !== 'object' && node.kind !== 'array') return node.value;
  let text = '';
  let afterOpen = true;
  const unfolded = new Set<number>();
  for (const line of lines(nodes.slice(at, node.end).map((n) => ({ ...n, end: n.end - at, parent: n.parent - at })), unfolded)) {
    const n = nodes[at + line.node]!;
    const indent = '  '.repeat(n.depth - node.depth);
    if (line.closes) {
      text += `\n${indent}${n.kind === 'object' ? '}' : ']'}`;
      afterOpen = false;
      continue;
    }
    if (line.node > 0) text += `${afterOpen ? '' : ','}\n${indent}${typeof n.key === 'string' ? `${JSON.stringify(n.key)}: ` : ''}`;
    const open = n.kind === 'object' ? '{' : n.kind === 'array' ? '[' : '';
    if (open) text += n.size === 0 ? open + (open === '{' ? '}' : ']') : open;
    else text += n.kind === 'string' ? JSON.stringify(n.value) : n.value;
    afterOpen = open !== '' && n.size > 0;
  }
  return text;
}

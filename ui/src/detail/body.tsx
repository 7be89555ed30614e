// A message's body: JSON as a tree, text as it is, octets as hex, an image as one. Nothing in a body is ever run or
// fetched from elsewhere: text is text, and only images that the API vouches for are shown, from its own address.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useMemo } from 'preact/hooks';
import { api, type BodyFacts, type BodyText } from '../api';
import { duration, grouped, size } from '../format';
import { addChip, hrefOf, mentions, openDetail, openPage, openRow, place, t } from '../state';
import { seen } from '../mentions';
import { Icon } from '../shapes';
import { hexLines, type HexLine } from './hex';
import { foldedAtFirst, lines, parseJson, path, textOf, type JsonNode } from './json';
import { cursor } from './cursor';

type BodyView = 'tree' | 'source' | 'hex' | 'image';
/** Lines of a tree that are drawn at first, and by each "show more". */
const TREE_LINES = 800;
const HEX_OCTETS = 16 * 256;

interface BodyProps {
  id: string;
  side: 'request' | 'response';
  facts: BodyFacts;
  text: BodyText | null;
}

export function Body({ id, side, facts, text }: BodyProps): JSX.Element | null {
  const w = t.value;
  const nodes = useMemo(() => (text?.json && text.text !== null && !text.truncated ? parseJson(text.text) : null), [text]);
  const views: BodyView[] = [];
  if (text?.image) views.push('image');
  if (nodes) views.push('tree');
  if (text?.text !== null && text?.text !== undefined) views.push('source');
  if (facts.stored > 0) views.push('hex');
  const chosen = useSignal<BodyView | null>(null);
  useEffect(() => {
    chosen.value = null;
  }, [id]);
  if (facts.size === 0 && facts.wire_size === 0) return <p class="nobody">{w.noBody}</p>;
  const view = chosen.value && views.includes(chosen.value) ? chosen.value : (views[0] ?? null);
  const [n, unit] = size(facts.size);
  return (
    <div class="bodybox">
      <div class="bodyhead">
        {views.length > 0 && (
          <div class="segments" role="group" aria-label={w.body}>
            {views.map((v) => (
              <button type="button" aria-pressed={v === view} onClick={() => (chosen.value = v)}>
                {w.bodyViews[v]}
              </button>
            ))}
          </div>
        )}
        <span class="bodyfacts">
          {`${n} ${unit}${w.comma}`}
          <span class={facts.complete ? '' : 'warnink'}>{facts.complete ? w.complete : w.incomplete}</span>
        </span>
        {facts.stored > 0 && (
          <a class="tool" href={api.bodyAddress(id, side, true)} download="" title={w.download} aria-label={`${w.download}: ${w[side]}`}>
            <Icon name="export" />
          </a>
        )}
      </div>
      {view === 'tree' && nodes && <Tree nodes={nodes} />}
      {view === 'source' && text && text.text !== null && (
        <>
          <pre class="source" tabIndex={0}>
            {text.text}
          </pre>
          {text.truncated && <p class="note">{w.truncatedText(size(new Blob([text.text]).size).join(' '), size(facts.size).join(' '))}</p>}
        </>
      )}
      {view === 'hex' && <Hex id={id} side={side} stored={facts.stored} />}
      {view === 'image' && <img class="picture" src={api.bodyAddress(id, side)} alt={w.bodyViews.image} />}
      {view === null && <p class="note">{facts.stored === 0 ? w.notKept : w.notText}</p>}
      {facts.stored < facts.size && facts.stored > 0 && <p class="note">{w.truncatedText(size(facts.stored).join(' '), size(facts.size).join(' '))}</p>}
    </div>
  );
}

function Tree({ nodes }: { nodes: readonly JsonNode[] }): JSX.Element {
  const w = t.value;
  const folded = useSignal<ReadonlySet<number>>(new Set());
  const most = useSignal(TREE_LINES);
  /** Long values that are shown whole; else a value has one line. */
  const whole = useSignal<ReadonlySet<number>>(new Set());
  const flip = (set: ReadonlySet<number>, i: number) => {
    const next = new Set(set);
    if (!next.delete(i)) next.add(i);
    return next;
  };
  useEffect(() => {
    folded.value = foldedAtFirst(nodes);
    most.value = TREE_LINES;
    whole.value = new Set();
  }, [nodes]);
  const toggle = (i: number) => (folded.value = flip(folded.value, i));
  const all = lines(nodes, folded.value);
  const shown = all.slice(0, most.value);
  const act = {
    fold: (close: boolean) => {
      const next = new Set<number>();
      if (close) nodes.forEach((node, i) => node.depth > 0 && node.size > 0 && (node.kind === 'object' || node.kind === 'array') && next.add(i));
      folded.value = next;
    },
    value: (i: number) => textOf(nodes, i),
    path: (i: number) => path(nodes, i),
  };
  return (
    <>
      <div
        class="tree"
        role="tree"
        aria-label="JSON"
        ref={(el) => {
          if (el) cursor.trees.set(el, act);
        }}
        onPointerOver={(event) => (cursor.at = (event.target as Element).closest<HTMLElement>('.tree > div'))}
        onKeyDown={(event) => {
          const line = (event.target as Element).closest<HTMLElement>('.tree > div');
          const i = Number(line?.dataset.node ?? -1);
          const node = nodes[i];
          if (!line || !node) return;
          const container = node.size > 0 && (node.kind === 'object' || node.kind === 'array');
          const step = (by: 'nextElementSibling' | 'previousElementSibling') => {
            let next = line[by] as HTMLElement | null;
            while (next && next.dataset.node === undefined) next = next[by] as HTMLElement | null;
            next?.focus();
          };
          if (event.key === 'ArrowDown') step('nextElementSibling');
          else if (event.key === 'ArrowUp') step('previousElementSibling');
          else if ((event.key === 'ArrowLeft' && container && !folded.value.has(i)) || (event.key === 'ArrowRight' && container && folded.value.has(i)) || ((event.key === 'Enter' || event.key === ' ') && container && event.target === line)) toggle(i);
          else if ((event.key === 'Enter' || event.key === ' ') && node.kind === 'string' && event.target === line) whole.value = flip(whole.value, i);
          else if (event.key === 'ArrowLeft' && node.parent >= 0) line.parentElement?.querySelector<HTMLElement>(`[data-node="${node.parent}"]`)?.focus();
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
        onFocusIn={(event) => (cursor.at = (event.target as Element).closest<HTMLElement>('.tree > div'))}
      >
        {shown.map((line, at) => {
          const node = nodes[line.node]!;
          const close = node.kind === 'object' ? '}' : ']';
          if (line.closes)
            return (
              <div role="presentation" class="closing" style={{ paddingLeft: `${18 + node.depth * 14}px` }}>
                {close}
              </div>
            );
          const container = node.kind === 'object' || node.kind === 'array';
          const shut = folded.value.has(line.node);
          const open = node.kind === 'object' ? '{' : '[';
          return (
            <div
              role="treeitem"
              tabIndex={at === 0 ? 0 : -1}
              data-node={line.node}
              aria-level={node.depth + 1}
              class={whole.value.has(line.node) ? 'whole' : ''}
              {...(container && node.size > 0 ? { 'aria-expanded': !shut } : {})}
              style={{ paddingLeft: `${18 + node.depth * 14}px` }}
            >
              {container && node.size > 0 && (
                <button type="button" tabIndex={-1} class={`fold ${shut ? 'shut' : ''}`} aria-label={shut ? w.unfold : w.fold} style={{ left: `${4 + node.depth * 14}px` }} onClick={() => toggle(line.node)} />
              )}
              {typeof node.key === 'string' && (
                <span class="jkey">
                  <span class="jk">{node.key}</span>:{' '}
                </span>
              )}
              {!container && <Scalar node={node} open={() => getSelection()?.isCollapsed !== false && (whole.value = flip(whole.value, line.node))} />}
              {container && (node.size === 0 ? <span>{`${open}${close}`}</span> : shut ? <button type="button" tabIndex={-1} class="folded" onClick={() => toggle(line.node)}>{`${open} ${node.size} ${close}`}</button> : <span>{open}</span>)}
            </div>
          );
        })}
      </div>
      {all.length > shown.length && (
        <button type="button" class="more" onClick={() => (most.value += TREE_LINES)}>
          {w.more} ({grouped(all.length - shown.length)})
        </button>
      )}
    </>
  );
}

const PUBLIC = /^(https:\/\/www\.w3\.org\/ns\/activitystreams#Public|as:Public|Public)$/;

function Scalar({ node, open }: { node: JsonNode; open: () => void }): JSX.Element {
  if (node.kind === 'number') return <span class="jn">{node.value}</span>;
  if (node.kind === 'literal') return <span class="jl">{node.value}</span>;
  const text = JSON.stringify(node.value);
  if (!/^https?:\/\/[^\s"]+$/.test(node.value) || PUBLIC.test(node.value) || node.key === null)
    return (
      <span class="js" onClick={open}>
        {text}
      </span>
    );
  const here = openRow.value;
  const found = here && seen(mentions.value, node.value, here);
  if (found) {
    const { row, us } = found;
    return (
      <>
        <span class="js" onClick={open}>
          {text}
        </span>
        <a
          class="idlink"
          tabIndex={-1}
          href={hrefOf(place.value.page === 'exchange' ? { id: row.id, panel: null } : { sel: row.id })}
          title={row.sentence}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            if (place.peek().page === 'exchange') openPage(row.id);
            else openDetail(row.id);
          }}
        >
          ↗ {us < 0 ? t.value.before(duration(-us)) : t.value.later(duration(us))}
        </a>
      </>
    );
  }
  return (
    <>
      <span class="js" onClick={open}>
        {text}
      </span>
      <button type="button" class="idlink" tabIndex={-1} title={t.value.follow} aria-label={t.value.follow} onClick={() => addChip({ field: 'id', op: 'is', values: [node.value], not: false })}>
        ↗
      </button>
    </>
  );
}

function Hex({ id, side, stored }: { id: string; side: 'request' | 'response'; stored: number }): JSX.Element {
  const w = t.value;
  const found = useSignal<HexLine[]>([]);
  const upTo = useSignal(0);
  const failed = useSignal('');
  const load = async (from: number, signal: AbortSignal) => {
    try {
      const bytes = await api.body(id, side, from, HEX_OCTETS, signal);
      if (signal.aborted) return;
      found.value = [...(from === 0 ? [] : found.value), ...hexLines(bytes, from)];
      upTo.value = from + bytes.length;
    } catch (error) {
      if (!signal.aborted) failed.value = String(error);
    }
  };
  useEffect(() => {
    const abort = new AbortController();
    failed.value = '';
    void load(0, abort.signal);
    return () => abort.abort();
  }, [id, side]);
  if (failed.value) return <p class="note errink">{failed.value}</p>;
  return (
    <>
      <pre class="hex" tabIndex={0}>
        {found.value.map((line) => (
          <div>
            <span class="offset">{line.offset}</span> {line.hex} <span class="ascii">{line.text}</span>
          </div>
        ))}
      </pre>
      {upTo.value > 0 && upTo.value < stored && (
        <button type="button" class="more" onClick={() => void load(upTo.value, new AbortController().signal)}>
          {w.more} ({size(stored - upTo.value).join(' ')})
        </button>
      )}
    </>
  );
}

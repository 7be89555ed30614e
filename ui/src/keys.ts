// The keys. Single keys act only outside fields, and can be switched off; only keys that do something are listed.

import { copyCurl, panelOfKey, showPanel } from './detail/detail';
import { foldTrees, underCursor } from './detail/cursor';
import { focusFilter, hideLike, onlyLike, removeLastChip } from './filter/filter';
import type { Words } from './i18n/en';
import { active, closeDetail, copy, dialog, feed, go, leavePage, move, moveChain, moveDelivery, moveProblem, openDetail, openPage, place, setPaused, setView, singleKeys, toEnd, toStart, around } from './state';

/** The groups of the help page. */
export const GROUPS: [keyof Words['groups'], [string[], keyof Words['keys']][]][] = [
  [
    'list',
    [
      [['j', 'k'], 'move'],
      [['Shift+J', 'Shift+K'], 'delivery'],
      [['n', 'N'], 'problem'],
      [['Enter'], 'open'],
      [['o'], 'page'],
      [['Home', 'End'], 'ends'],
      [['Space'], 'pause'],
    ],
  ],
  [
    'detail',
    [
      [['h', 'l'], 'chain'],
      [['1', '…', '6'], 'panels'],
      [['[', ']'], 'fold'],
      [['y'], 'copyValue'],
      [['Y'], 'copyPath'],
      [['u'], 'curl'],
    ],
  ],
  [
    'filter',
    [
      [['/'], 'filter'],
      [['f'], 'only'],
      [['F'], 'hide'],
      [['Backspace'], 'lastChip'],
      [['t'], 'time'],
      [['v'], 'view'],
    ],
  ],
  [
    'go',
    [
      [['Ctrl+K'], 'find'],
      [['?'], 'help'],
      [['Esc'], 'close'],
    ],
  ],
];

const inField = (target: EventTarget | null) => target instanceof HTMLElement && target.matches('input:not([type=checkbox]), textarea, select, [contenteditable]');
/** Elements whose own keys come first. */
const takesEnter = (target: EventTarget | null) => target instanceof HTMLElement && target.matches('a, button, summary, [role=slider], [role=option], [role=treeitem]');

/** On the page of an exchange j and k go along what is around it. */
function step(by: 1 | -1): void {
  if (place.peek().page === 'list') return void move(by);
  const rows = around.peek() ?? [];
  const here = rows.findIndex((row) => row.id === place.peek().id);
  const next = rows[here + by];
  if (here >= 0 && next) go({ id: next.id, panel: null }, 'replace');
}

function copied(what: 'value' | 'path'): void {
  const text = underCursor(what);
  if (text) void copy(text);
}

export function onKey(event: KeyboardEvent): void {
  if (event.isComposing || event.defaultPrevented) return;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    dialog.value = dialog.peek() === 'find' ? null : 'find';
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.peek() || inField(event.target)) return;
  const onList = place.peek().page === 'list';
  const { sel } = place.peek();
  const inList = event.target instanceof HTMLElement && (event.target === document.body || event.target.closest('.grid') !== null);

  // These are not single characters: they always act.
  if (event.key === 'Escape') {
    if (!onList) leavePage();
    else if (sel) closeDetail();
    else return;
    event.preventDefault();
    return;
  }
  if (onList && inList) {
    const acts: Record<string, () => void> = { ArrowDown: () => void move(1), ArrowUp: () => void move(-1), Home: () => void toStart(), End: () => void toEnd() };
    const act = acts[event.key];
    if (act) {
      event.preventDefault();
      return act();
    }
  }
  if (event.key === 'Enter') {
    if (!onList || takesEnter(event.target) || !active.peek()) return;
    event.preventDefault();
    return openDetail(active.peek());
  }
  if (!singleKeys.peek()) return;

  const acts: Record<string, () => void> = {
    j: () => step(1),
    k: () => step(-1),
    J: () => onList && void moveDelivery(1),
    K: () => onList && void moveDelivery(-1),
    n: () => onList && void moveProblem(1),
    N: () => onList && void moveProblem(-1),
    h: () => moveChain(-1),
    l: () => moveChain(1),
    o: () => onList && (sel || active.peek()) && openPage(sel || active.peek()),
    Home: () => onList && void toStart(),
    End: () => onList && void toEnd(),
    '[': () => foldTrees(true),
    ']': () => foldTrees(false),
    y: () => copied('value'),
    Y: () => copied('path'),
    u: copyCurl,
    '/': () => onList && focusFilter(),
    f: () => onList && onlyLike(),
    F: () => onList && hideLike(),
    Backspace: () => onList && removeLastChip(),
    t: () => document.querySelector<HTMLElement>('.thumb')?.focus(),
    v: () => onList && setView(place.peek().v === 'all' ? 'federation' : 'all'),
    '?': () => (dialog.value = 'keys'),
  };
  if (event.key === ' ' && onList && !takesEnter(event.target)) acts[' '] = () => setPaused(!feed.paused.peek());
  const panel = panelOfKey(event.key);
  if (panel && (sel || !onList)) acts[event.key] = () => showPanel(panel);
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// Where the pointer or the focus is in the detail, for the keys y, Y, [ and ].

export interface TreeActions {
  fold(close: boolean): void;
  value(node: number): string;
  path(node: number): string;
}

export const cursor = {
  /** The line or header last pointed at or focused. */
  at: null as HTMLElement | null,
  trees: new WeakMap<Element, TreeActions>(),
};

/** The value or the path under the cursor, or `null` when there is none. */
export function underCursor(what: 'value' | 'path'): string | null {
  const el = cursor.at;
  if (!el?.isConnected) return null;
  const tree = el.closest('.tree');
  const actions = tree && cursor.trees.get(tree);
  if (actions) {
    const node = Number(el.dataset.node ?? -1);
    return node < 0 ? null : actions[what](node);
  }
  return (what === 'value' ? el.dataset.value : el.dataset.name) ?? null;
}

/** Folds or unfolds the tree under the cursor, else the first of the page. */
export function foldTrees(close: boolean): void {
  const tree = cursor.at?.isConnected ? cursor.at.closest('.tree') : null;
  for (const el of tree ? [tree] : document.querySelectorAll('.tree')) cursor.trees.get(el)?.fold(close);
}

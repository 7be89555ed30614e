// The two dialogs: all keys, and find anything.

import { useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { api, type Row } from './api';
import { clockText, grouped } from './format';
import { expression, type Chip } from './filter/chips';
import { chipText } from './filter/filter';
import { GROUPS } from './keys';
import { isDelivery } from './list/window';
import { Sentence } from './list/row';
import { sentence } from './sentence';
import { Badge, Icon, KindIcon, Status } from './shapes';
import { addChip, book, dialog, go, lang, local, openDetail, place, setChips, setView, singleKeys, t, theme, toEnd, toStart } from './state';

function Dialog({ label, class: c, children }: { label: string; class: string; children: ComponentChildren }): JSX.Element {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const el = box.current;
    const before = document.activeElement as HTMLElement | null;
    el?.showModal();
    (el?.querySelector('input[type=text]') as HTMLElement | null ?? el)?.focus();
    return () => {
      el?.close();
      before?.focus?.();
    };
  }, []);
  return (
    <dialog
      ref={box}
      class={c}
      tabIndex={-1}
      aria-label={label}
      onCancel={(event) => {
        event.preventDefault();
        dialog.value = null;
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) dialog.value = null;
      }}
    >
      {children}
    </dialog>
  );
}

export function Keys(): JSX.Element {
  const w = t.value;
  return (
    <Dialog label={w.keyboard} class="keys">
      <header>
        <h2>{w.keyboard}</h2>
        <label>
          <input type="checkbox" checked={singleKeys.value} onChange={(event) => (singleKeys.value = event.currentTarget.checked)} /> {w.singleKeys}
        </label>
        <span class="dim">{w.keysWhen}</span>
        <button type="button" class="kbdbutton" aria-label={w.close} onClick={() => (dialog.value = null)}>
          <kbd>Esc</kbd>
        </button>
      </header>
      <div class="keycolumns">
        {GROUPS.map(([group, entries]) => (
          <section>
            <h3>{w.groups[group]}</h3>
            <dl>
              {entries.map(([keys, what]) => (
                <div>
                  <dt>
                    {keys.map((key) => (
                      <kbd>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{w.keys[what]}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}

interface Found {
  group: string;
  icon: JSX.Element;
  text: JSX.Element | string;
  detail?: JSX.Element | string;
  act: () => void;
}

export function Find(): JSX.Element {
  const w = t.value;
  const text = useSignal('');
  const chosen = useSignal(0);
  const rows = useSignal<readonly Row[]>([]);
  const body = useRef<HTMLUListElement>(null);
  const word = text.value.trim();

  useEffect(() => {
    chosen.value = 0;
    if (word.length < 2) {
      rows.value = [];
      return;
    }
    const abort = new AbortController();
    const timer = window.setTimeout(() => {
      const chip: Chip = { field: 'word', op: 'contains', values: [word], not: false };
      api.exchanges({ q: expression([chip]), v: place.peek().v, from: '', to: '' }, {}, 6, abort.signal).then(
        (page) => (rows.value = page.rows),
        () => {},
      );
    }, 150);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [word]);

  const low = word.toLowerCase();
  const found: Found[] = [];
  for (const host of book.value.all.filter((h) => low !== '' && h.host.toLowerCase().includes(low)).slice(0, 5))
    found.push({ group: w.findGo, icon: <Badge host={host} />, text: host.host, detail: host.software ?? '', act: () => addChip({ field: 'server', op: 'is', values: [host.host], not: false }) });
  if (word) {
    const filters: Chip[] = [
      { field: 'word', op: 'contains', values: [word], not: false },
      { field: 'actor', op: 'contains', values: [word.replace(/^@/, '').split('@')[0] ?? word], not: false },
      { field: 'path', op: 'contains', values: [word], not: false },
      { field: 'body', op: 'contains', values: [word], not: false },
    ];
    for (const chip of filters) {
      const { label, value } = chipText(chip, w);
      found.push({
        group: w.findFilter,
        icon: <Icon name="filter" />,
        text: (
          <span class="chip">
            <span class="chiplabel">{chip.field === 'word' ? w.fields.word : label}</span> <b>{value}</b>
          </span>
        ),
        act: () => addChip(chip),
      });
    }
  }
  for (const row of rows.value)
    found.push({
      group: w.findExchanges,
      icon: <KindIcon kind={row.kind} />,
      text: (
        <span class={`sentence ${isDelivery(row) ? 'delivery' : ''}`}>
          <Sentence parts={sentence(row, lang.value, book.value)} /> <small>{clockText(row.started, local.value)}</small>
        </span>
      ),
      detail: <Status row={row} />,
      act: () => (place.peek().page === 'exchange' ? go({ id: row.id, panel: null }) : openDetail(row.id)),
    });
  const commands: [string, () => void, string?][] = [
    [w.commands.newest, () => void toEnd(), 'End'],
    [w.commands.oldest, () => void toStart(), 'Home'],
    [w.commands.view, () => setView(place.peek().v === 'all' ? 'federation' : 'all'), 'v'],
    [w.commands.clear, () => setChips([])],
    [w.commands.theme, () => go({ theme: theme.peek() === 'dark' ? 'light' : 'dark' }, 'replace')],
    [w.commands.language, () => go({ lang: lang.peek() === 'ja' ? 'en' : 'ja' }, 'replace')],
    [w.commands.keys, () => (dialog.value = 'keys'), '?'],
  ];
  for (const [name, act, key] of commands) if (low === '' || name.toLowerCase().includes(low)) found.push({ group: w.findCommands, icon: <Icon name="right" />, text: name, ...(key ? { detail: <kbd>{key}</kbd> } : {}), act });

  const take = (f: Found | undefined) => {
    if (!f) return;
    dialog.value = null;
    f.act();
  };
  useEffect(() => {
    body.current?.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' });
  }, [chosen.value]);

  return (
    <Dialog label={w.find} class="find">
      <header>
        <Icon name="search" />
        <input
          type="text"
          role="combobox"
          aria-label={w.find}
          aria-expanded="true"
          aria-controls="found"
          aria-activedescendant={found.length > 0 ? `found-${chosen.value}` : undefined}
          autocomplete="off"
          spellcheck={false}
          placeholder={w.findPlaceholder}
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.isComposing) return;
            if (event.key === 'ArrowDown') chosen.value = (chosen.value + 1) % Math.max(1, found.length);
            else if (event.key === 'ArrowUp') chosen.value = (chosen.value - 1 + found.length) % Math.max(1, found.length);
            else if (event.key === 'Enter') take(found[chosen.value]);
            else return;
            event.preventDefault();
          }}
        />
        <kbd>Esc</kbd>
      </header>
      <ul id="found" role="listbox" aria-label={w.find} ref={body}>
        {found.length === 0 && <li class="none">{w.findNothing}</li>}
        {found.map((f, i) => (
          <>
            {f.group !== found[i - 1]?.group && (
              <li role="presentation" class="group">
                {f.group}
              </li>
            )}
            <li role="option" id={`found-${i}`} aria-selected={i === chosen.value} onClick={() => take(f)} onPointerMove={() => (chosen.value = i)}>
              {f.icon}
              <span class="grow">{f.text}</span>
              <span class="dim">{f.detail}</span>
            </li>
          </>
        ))}
      </ul>
      <footer>
        <span>
          <kbd>↑</kbd> <kbd>↓</kbd> {w.choose}
        </span>
        <span>
          <kbd>Enter</kbd> {w.open}
        </span>
        <span class="grow" />
        {rows.value.length > 0 && <span class="dim">{grouped(rows.value.length)}</span>}
      </footer>
    </Dialog>
  );
}

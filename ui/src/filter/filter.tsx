// The filter: a view, chips, and free text that becomes chips. The same as an expression (CEL) for those who want it.
// An error is said where it is; the list keeps the last good result.

import { signal, useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { api } from '../api';
import { clockText, grouped } from '../format';
import type { Words } from '../i18n/en';
import { Icon, type IconName } from '../shapes';
import { COLUMNS, moved, NARROWEST, WIDEST, type Chosen } from '../url';
import { active, addChip, addChips, book, chips, announcement, columns, feed, go, local, place, setChips, setColumn, setColumns, setView, shownColumns, t, WIDTHS } from '../state';
import { chipsTyped, celOf, defaultOp, expression, TYPED, typed, type Chip, type Field } from './chips';

const input = signal('');
const asCel = signal(false);
const celText = signal('');

export function focusFilter(): void {
  if (asCel.peek()) document.getElementById('cel')?.focus();
  else document.getElementById('filter')?.focus();
}

/** How a value of a chip is shown. */
function shown(field: Field, value: string, words: Words): string {
  if (field === 'between' || field === 'from' || field === 'to' || field === 'server') return book.value.short(value);
  if (field === 'kind') return words.kinds[value] ?? value;
  if (field === 'signature') return words.verdicts[value as keyof Words['verdicts']] ?? value;
  if (field === 'id' || field === 'actor') return value.replace(/^https?:\/\//, '').length > 40 ? `…${value.slice(-38)}` : value.replace(/^https?:\/\//, '');
  return value;
}

export function chipText(chip: Chip, words: Words): { label: string; value: string } {
  const values = chip.values.map((v) => shown(chip.field, v, words)).join(chip.field === 'between' ? words.comma : words.or);
  const not = chip.not ? `${words.not} ` : '';
  if (chip.field === 'cel') return { label: `${not}CEL`, value: values };
  if (chip.field === 'word') return { label: not.trim(), value: values };
  const op = words.ops[chip.op];
  return { label: words.code === 'ja' ? `${not}${words.fields[chip.field]}${chip.op === 'is' ? '' : op}` : `${not}${words.fields[chip.field]} ${op}`, value: values };
}

const KINDS = ['inbox-delivery', 'actor', 'key', 'object', 'collection', 'webfinger', 'nodeinfo', 'nodeinfo-discovery', 'robots', 'media', 'client-api', 'streaming', 'page', 'asset', 'other'];
const ACTIVITIES = ['Follow', 'Accept', 'Reject', 'Create', 'Update', 'Delete', 'Announce', 'Like', 'Undo', 'Block', 'Flag', 'Move', 'Add', 'Remove', 'EmojiReact'];

/** Values that a field offers. */
function valuesOf(field: Field): string[] {
  switch (field) {
    case 'between':
    case 'server':
    case 'from':
    case 'to':
      return book.value.all.map((h) => h.host);
    case 'kind':
      return KINDS;
    case 'activity':
      return ACTIVITIES;
    case 'status':
      return ['2xx', '3xx', '4xx', '5xx', '401', '404'];
    case 'took':
      return ['10 ms', '100 ms', '1 s', '10 s'];
    case 'signature':
      return ['valid', 'invalid', 'key-not-seen', 'not-checkable', 'unsigned'];
    case 'digest':
      return ['match', 'mismatch', 'absent', 'not-checkable'];
    case 'method':
      return ['GET', 'POST', 'HEAD', 'PUT', 'DELETE'];
    default:
      return [];
  }
}

interface Suggestion {
  key: string;
  label: string;
  detail: string;
  /** A chip to add, or text to go on typing with. */
  chip?: Chip;
  text?: string;
}

function suggestions(text: string, words: Words): Suggestion[] {
  const now = typed(text, words.fields);
  const dash = now.not ? '-' : '';
  if (now.field) {
    const field = now.field;
    const op = now.op ?? defaultOp(field);
    const done = now.rest.split(/\s*,\s*/);
    const last = (done.pop() ?? '').toLowerCase();
    return valuesOf(field)
      .filter((v) => v.toLowerCase().includes(last) || shown(field, v, words).toLowerCase().includes(last))
      .filter((v) => !done.includes(v))
      .slice(0, 9)
      .map((v): Suggestion => {
        if (field === 'between' && done.length === 0) return { key: v, label: shown(field, v, words), detail: v, text: `${dash}${words.fields.between} ${v}, ` };
        const chip: Chip = { field, op, values: [...done, v], not: now.not };
        return { key: v, label: [...done, v].map((x) => shown(field, x, words)).join(words.comma), detail: '', chip };
      });
  }
  const rest = now.rest.trim().toLowerCase();
  const fields = TYPED.filter((f) => words.fields[f].toLowerCase().startsWith(rest) || f.startsWith(rest));
  const found: Suggestion[] = fields.slice(0, rest ? 6 : 15).map((f) => ({ key: `field ${f}`, label: words.fields[f], detail: words.ops[defaultOp(f)], text: `${dash}${words.fields[f]} ${words.code === 'en' ? `${words.ops[defaultOp(f)]} ` : ''}` }));
  if (rest.length > 1) {
    const word = now.rest.trim();
    found.unshift({ key: 'word', label: word, detail: words.fields.word, chip: { field: 'word', op: 'contains', values: [word], not: now.not } });
    found.push({ key: 'body', label: `${words.fields.body} ${words.ops.contains} ${word}`, detail: '', chip: { field: 'body', op: 'contains', values: [word], not: now.not } });
    for (const value of valuesOf('server').filter((h) => h.includes(rest)).slice(0, 3)) found.push({ key: `server ${value}`, label: `${words.fields.server} ${words.ops.is} ${shown('server', value, words)}`, detail: value, chip: { field: 'server', op: 'is', values: [value], not: now.not } });
    for (const value of valuesOf('activity').filter((a) => a.toLowerCase().startsWith(rest)).slice(0, 2)) found.push({ key: `activity ${value}`, label: `${words.fields.activity} ${words.ops.is} ${value}`, detail: '', chip: { field: 'activity', op: 'is', values: [value], not: now.not } });
  }
  return found;
}

export function Filter(): JSX.Element {
  const w = t.value;
  const field = useRef<HTMLInputElement>(null);
  const open = useSignal(false);
  const chosen = useSignal(-1);
  const error = feed.error.value?.code === 'bad-filter' ? feed.error.value : null;
  const list = open.value ? suggestions(input.value, w) : [];
  const now = chips.value;
  const counts = useSignal<ReadonlyMap<string, string>>(new Map());
  // What each offered value would leave, asked for once the typing rests.
  const offered = list.filter((s) => s.chip).map((s) => s.key).join();
  useEffect(() => {
    if (offered === '') return;
    const abort = new AbortController();
    counts.value = new Map();
    const timer = window.setTimeout(() => {
      const { v, from, to } = place.peek();
      for (const s of list) {
        if (!s.chip || s.chip.field === 'body') continue;
        api.count({ q: expression([...now, s.chip]), v, from, to }, abort.signal).then(
          (n) => {
            if (!abort.signal.aborted) counts.value = new Map(counts.value).set(s.key, n.exact ? grouped(n.matched) : w.atLeast(grouped(n.matched)));
          },
          () => {},
        );
      }
    }, 250);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [offered, place.value]);

  const add = (chip: Chip) => {
    input.value = '';
    chosen.value = -1;
    addChips([chip]);
    field.current?.focus();
  };
  const take = (s: Suggestion) => {
    if (s.chip) add(s.chip);
    else if (s.text !== undefined) {
      input.value = s.text;
      chosen.value = -1;
      field.current?.focus();
    }
  };
  const remove = (i: number) => setChips(now.filter((_, at) => at !== i));
  const bad = (chip: Chip) => error !== null && (chip.field === 'cel' || !now.some((c) => c.field === 'cel'));
  const timeChips: [string, 'from' | 'to', string][] = [];
  if (place.value.from) timeChips.push([w.stripFrom, 'from', place.value.from]);
  if (place.value.to) timeChips.push([w.stripTo, 'to', place.value.to]);

  return (
    <section class="filterrow" role="search" aria-label={w.filter}>
      <div class={`filterbox ${error ? 'bad' : ''}`} onClick={(event) => event.target === event.currentTarget && focusFilter()}>
        <Icon name="filter" />
        <span class={`chip view ${place.value.v === 'all' ? 'off' : ''}`}>
          <button type="button" class="chipbody" title={w.keys.view} onClick={() => setView(place.value.v === 'all' ? 'federation' : 'all')}>
            {w.views[place.value.v]}
          </button>
          {place.value.v === 'federation' && (
            <button type="button" class="chipx" aria-label={w.removeChip(w.views.federation)} onClick={() => setView('all')}>
              <Icon name="x" />
            </button>
          )}
        </span>
        {timeChips.map(([name, key, value]) => (
          <span class="chip">
            <span class="chiplabel">{name}</span> <b>{clockText(value, local.value).slice(0, 12)}</b>
            <button type="button" class="chipx" aria-label={w.removeChip(name)} onClick={() => go({ [key]: '', at: '' })}>
              <Icon name="x" />
            </button>
          </span>
        ))}
        {asCel.value ? (
          <Cel />
        ) : (
          <>
            {now.map((chip, i) => {
              const text = chipText(chip, w);
              return (
                <span class={`chip ${bad(chip) ? 'bad' : ''} ${chip.not ? 'not' : ''}`} title={celOf(chip) ?? ''}>
                  <button
                    type="button"
                    class="chipbody"
                    onClick={() => {
                      if (chip.field === 'cel') {
                        celText.value = place.peek().q;
                        asCel.value = true;
                        return;
                      }
                      input.value = `${chip.not ? '-' : ''}${chip.field === 'word' ? '' : `${w.fields[chip.field]} ${w.code === 'en' ? `${w.ops[chip.op]} ` : ''}`}${chip.values.join(', ')}`;
                      remove(i);
                      field.current?.focus();
                    }}
                  >
                    <span class="chiplabel">{text.label}</span> <b>{text.value}</b>
                  </button>
                  <button type="button" class="chipx" aria-label={w.removeChip(`${text.label} ${text.value}`)} onClick={() => remove(i)}>
                    <Icon name="x" />
                  </button>
                </span>
              );
            })}
            <input
              id="filter"
              ref={field}
              type="text"
              role="combobox"
              aria-label={w.filter}
              aria-expanded={list.length > 0}
              aria-controls="suggestions"
              aria-autocomplete="list"
              aria-activedescendant={chosen.value >= 0 ? `suggestion-${chosen.value}` : undefined}
              autocomplete="off"
              spellcheck={false}
              placeholder={w.filterPlaceholder}
              value={input.value}
              onInput={(event) => {
                input.value = event.currentTarget.value;
                open.value = true;
                chosen.value = -1;
              }}
              onFocus={() => (open.value = true)}
              onBlur={() => window.setTimeout(() => (open.value = false), 120)}
              onKeyDown={(event) => {
                if (event.isComposing) return;
                if (event.key === 'ArrowDown' && list.length > 0) chosen.value = (chosen.value + 1) % list.length;
                else if (event.key === 'ArrowUp' && list.length > 0) chosen.value = chosen.value <= 0 ? list.length - 1 : chosen.value - 1;
                else if (event.key === 'Enter') {
                  const picked = list[chosen.value];
                  if (picked) take(picked);
                  else {
                    const typed = chipsTyped(input.value, w.fields);
                    if (typed.length === 0) return;
                    input.value = '';
                    addChips(typed);
                  }
                } else if (event.key === 'Tab' && chosen.value >= 0 && list[chosen.value]) take(list[chosen.value]!);
                else if (event.key === 'Backspace' && input.value === '' && now.length > 0) remove(now.length - 1);
                else if (event.key === 'Escape') {
                  event.stopPropagation();
                  if (input.value) input.value = '';
                  else field.current?.blur();
                  open.value = false;
                  return;
                } else return;
                event.preventDefault();
              }}
            />
          </>
        )}
        {!asCel.value && <kbd aria-hidden="true">/</kbd>}
        <button
          type="button"
          class="celbutton"
          title={w.celTitle}
          aria-pressed={asCel.value}
          onClick={() => {
            celText.value = expression(now);
            asCel.value = !asCel.value;
            if (asCel.value) requestAnimationFrame(focusFilter);
          }}
        >
          CEL
        </button>
        {list.length > 0 && (
          <ul class="suggestions" id="suggestions" role="listbox" aria-label={w.filter}>
            {list.map((s, i) => (
              <li
                key={s.key}
                id={`suggestion-${i}`}
                role="option"
                aria-selected={i === chosen.value}
                onPointerDown={(event) => {
                  event.preventDefault();
                  take(s);
                }}
              >
                <b>{s.label}</b>
                <span>{s.detail}</span>
                <span class="num">{counts.value.get(s.key)}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
      <Counted />
      <Columns />
      <Export />
      {error && (
        <p class="filtererror" role="alert">
          <b>{w.filterError(error.line, error.column)}</b>
          {': '}
          {error.message}
          {error.help && `; ${error.help}`} {feed.rows.value.length > 0 && <span class="dim">{w.keepsLast}</span>}
        </p>
      )}
    </section>
  );
}

function Cel(): JSX.Element {
  const w = t.value;
  const error = useSignal('');
  useEffect(() => {
    const abort = new AbortController();
    const timer = window.setTimeout(() => {
      if (celText.value.trim() === '') return void (error.value = '');
      api.filter(celText.value, abort.signal).then(
        () => (error.value = ''),
        (e: unknown) => {
          if (abort.signal.aborted) return;
          const { line, column, message, help } = e as { line: number | null; column: number | null; message: string; help: string | null };
          error.value = `${w.filterError(line, column)}: ${message}${help ? ` ${help}` : ''}`;
        },
      );
    }, 250);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [celText.value]);
  const apply = () => {
    go({ q: celText.value.trim(), at: '' });
    if (!error.value) asCel.value = false;
  };
  return (
    <>
      <input
        id="cel"
        class="mono"
        type="text"
        aria-label="CEL"
        aria-invalid={error.value !== ''}
        aria-describedby="cel-error"
        autocomplete="off"
        spellcheck={false}
        placeholder={w.celEmpty}
        value={celText.value}
        onInput={(event) => (celText.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.isComposing) return;
          if (event.key === 'Enter') apply();
          else if (event.key === 'Escape') {
            event.stopPropagation();
            asCel.value = false;
          }
        }}
      />
      {error.value && (
        <span class="celerror" id="cel-error" role="alert">
          {error.value}
        </span>
      )}
      <button type="button" class="link strong" onClick={apply}>
        {w.celApply}
      </button>
    </>
  );
}

function Counted(): JSX.Element {
  const w = t.value;
  const count = feed.count.value;
  if (!count) return <span class="counted" />;
  const [shownText, ofText] = w.ofTotal(count.exact ? grouped(count.matched) : w.atLeast(grouped(count.matched)), grouped(count.total));
  return (
    <span class="counted">
      <b>{shownText}</b>
      <span>{ofText}</span>
    </span>
  );
}

/** A button with a box below it, which closes by a click elsewhere and by Escape. */
function Menu({ icon, label, class: c, children }: { icon: IconName; label: string; class?: string; children: (close: () => void) => ComponentChildren }): JSX.Element {
  const open = useSignal(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open.value) return;
    const close = (event: Event) => {
      if (event instanceof KeyboardEvent ? event.key !== 'Escape' : box.current?.contains(event.target as Node)) return;
      event.stopPropagation();
      open.value = false;
    };
    document.addEventListener('pointerdown', close, true);
    document.addEventListener('keydown', close, true);
    return () => {
      document.removeEventListener('pointerdown', close, true);
      document.removeEventListener('keydown', close, true);
    };
  }, [open.value]);
  return (
    <div class={`menu ${c ?? ''}`} ref={box}>
      <button type="button" class="button" aria-label={label} aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        <Icon name={icon} /> <span>{label}</span>
      </button>
      {open.value && <div class="menubox">{children(() => (open.value = false))}</div>}
    </div>
  );
}

/** Pixels by which a key makes a column wider or narrower. */
const STEP = 8;

/** Which columns there are, in which order and how wide: all by keys. The heads of the list can be dragged as well. */
function Columns(): JSX.Element {
  const w = t.value;
  const names: Record<Chosen['name'], string> = { kind: w.kind, meaning: w.meaning, request: w.requestColumn, status: w.status, took: w.took, body: w.body, signature: w.signature };
  const chosen = columns.value;
  const off = COLUMNS.filter((name) => !shownColumns.value.has(name));
  const move = (name: Chosen['name'], to: number, key: string) => {
    setColumns(moved(chosen, name, to));
    announcement.value = w.columnAt(names[name], to + 1, chosen.length);
    // The button moves along with its line, which costs it the focus; at an end it is disabled, and the other has it.
    requestAnimationFrame(() => {
      const line = document.querySelector(`.columnmenu [data-col="${name}"]`);
      (line?.querySelector<HTMLElement>(`[data-act="${key}"]:not(:disabled)`) ?? line?.querySelector<HTMLElement>('[data-act]:not(:disabled)'))?.focus();
    });
  };
  const resize = (name: Chosen['name'], by: number) => {
    const head = document.querySelector(`.full .heads [data-col="${name}"]`)?.getBoundingClientRect().width;
    setColumns(
      chosen.map((c) => {
        if (c.name !== name || name === 'meaning') return c;
        const now = c.width ?? (head ? Math.round(head) : WIDTHS[name]);
        return { ...c, width: Math.min(WIDEST, Math.max(NARROWEST, now + by)) };
      }),
    );
  };
  const act = (key: string, label: string, text: string, run: () => void, disabled = false) => (
    <button type="button" data-act={key} aria-label={label} title={label} disabled={disabled} onClick={run}>
      {text}
    </button>
  );
  return (
    <Menu icon="columns" label={w.columns} class="columnmenu">
      {() => (
        <>
          {chosen.map(({ name }, i) => (
            <div class="columnline" key={name} data-col={name}>
              <label>
                <input type="checkbox" checked disabled={name === 'meaning'} onChange={() => name !== 'meaning' && setColumn(name, false)} /> {names[name]}
              </label>
              {act('up', w.columnEarlier(names[name]), '↑', () => move(name, i - 1, 'up'), i === 0)}
              {act('down', w.columnLater(names[name]), '↓', () => move(name, i + 1, 'down'), i === chosen.length - 1)}
              {act('narrower', w.columnNarrower(names[name]), '−', () => resize(name, -STEP), name === 'meaning')}
              {act('wider', w.columnWider(names[name]), '+', () => resize(name, STEP), name === 'meaning')}
            </div>
          ))}
          {off.map((name) => (
            <div class="columnline" key={name}>
              <label>
                <input type="checkbox" checked={false} onChange={() => setColumn(name, true)} /> {names[name]}
              </label>
            </div>
          ))}
          <button type="button" class="link" onClick={() => setColumns(null)}>
            {w.columnsUsual}
          </button>
        </>
      )}
    </Menu>
  );
}

function Export(): JSX.Element {
  const w = t.value;
  const { q, v, from, to } = place.value;
  const count = feed.count.value;
  const formats = [
    ['har', w.exportHar],
    ['pcapng', w.exportPcapng],
    ['jsonl', w.exportJsonl],
  ] as const;
  return (
    <Menu icon="export" label={w.export}>
      {(close) => (
        <>
          <p>{w.exportWhat(count ? grouped(count.matched) : '…')}</p>
          {formats.map(([format, text]) => (
            <a href={api.exportAddress(format, { q, v, from, to })} download="" onClick={close}>
              {text}
            </a>
          ))}
        </>
      )}
    </Menu>
  );
}

/** Only like this: the activity itself for a delivery, else its servers and kind. */
export function onlyLike(): void {
  const row = feed.rows.peek().find((r) => r.id === (place.peek().sel || active.peek()));
  if (!row) return;
  if (row.activity_id) return addChip({ field: 'id', op: 'is', values: [row.activity_id], not: false });
  const hosts = [row.from, row.to].filter((h) => book.peek().has(h));
  const more: Chip[] = [{ field: 'kind', op: 'is', values: [row.kind], not: false }];
  if (hosts.length === 2 && hosts[0] !== hosts[1]) more.unshift({ field: 'between', op: 'is', values: hosts, not: false });
  addChips(more);
}

/** Hides such: the activity's type for a delivery, else the kind. */
export function hideLike(): void {
  const row = feed.rows.peek().find((r) => r.id === (place.peek().sel || active.peek()));
  if (!row) return;
  addChip(row.activity ? { field: 'activity', op: 'is', values: [row.activity], not: true } : { field: 'kind', op: 'is', values: [row.kind], not: true });
}

export function removeLastChip(): void {
  const now = chips.peek();
  if (now.length > 0) setChips(now.slice(0, -1));
}

// One row of the list: the sentence first, everything else serves it.

import type { JSX } from 'preact';
import type { Row } from '../api';
import { clock, clockText, duration, keepEnd, shortTarget, size } from '../format';
import type { Words } from '../i18n/en';
import { plain, sentence, type Part } from '../sentence';
import { Badge, Icon, KindIcon, Mark, sealOf, Signature, Status } from '../shapes';
import { book, columns, hostChars, lang, local, requestChars, t } from '../state';
import type { Chosen } from '../url';
import { LANES, type Cell } from './gutter';
import { isDelivery, statusClass, trouble } from './window';

export function Sentence({ parts }: { parts: readonly Part[] }): JSX.Element {
  return (
    <>
      {parts.map(([kind, text]) => (kind === 'host' ? <span class="at">{text}</span> : kind === 'name' ? <b>{text}</b> : text))}
    </>
  );
}

export function Time({ at }: { at: string }): JSX.Element {
  const c = clock(at, local.value);
  return (
    <>
      {c.minute}
      <i>{c.second}</i>
      {c.milli}
    </>
  );
}

export function Unit({ of: [n, unit] }: { of: [string, string] }): JSX.Element {
  return (
    <>
      {n}
      <small>{unit}</small>
    </>
  );
}

export const kindWord = (row: Row, words: Words): string => (isDelivery(row) && row.activity ? row.activity : (words.kinds[row.kind] ?? row.kind));
export const reasonWord = (reason: string, words: Words): string => words.reasons[reason] ?? reason.replace(/^key answers (\d+)$/, (_, status: string) => words.keyAnswers(status));

/** The lane beside the sentences: lines of what made what necessary, through the row and the space before it. */
const LANE = 9;
const FIRST = 4.5;
function Lines({ cell: { lane, up, down, from, into }, hot, before, height }: { cell: Cell; hot: number; before: number; height: number }): JSX.Element {
  const x = (n: number) => FIRST + n * LANE;
  const middle = height / 2;
  const paths: [string, boolean][] = [];
  for (let n = 0; n < LANES; n++) {
    const on = (hot & (1 << n)) !== 0;
    // Around the dot itself there is air.
    const air = n === lane ? 5 : 0;
    if (up & (1 << n)) paths.push([`M${x(n)} ${-before}V${middle - air}`, on]);
    if (down & (1 << n)) paths.push([`M${x(n)} ${middle + air}V${height}`, on]);
  }
  if (into >= 0) {
    // The curve ends short of a dot, at its edge; otherwise it goes straight on.
    const end = into === lane ? `C${x(from)} ${middle * 0.75} ${x(into) - 6} ${middle - 2} ${x(into) - 4} ${middle - 1.5}` : `C${x(from)} ${middle * 0.6} ${x(into)} ${middle * 0.3} ${x(into)} ${middle}`;
    paths.push([`M${x(from)} ${-before}V0${end}`, (hot & (1 << into)) !== 0]);
  }
  return (
    <svg class="rails" width={FIRST + LANES * LANE} height={height}>
      {paths.map(([d, on]) => (
        <path d={d} class={on ? 'hot' : undefined} />
      ))}
    </svg>
  );
}

/** What made a row necessary, in words. */
export const causedBy = (cause: Row, proven: boolean): string => {
  const words = t.value;
  return words.causedByWords(plain(sentence(cause, lang.value, book.value, true)), proven);
};

/** One row in one breath, for screen readers. */
export function spoken(row: Row, cause: Row | null = null, proven = false): string {
  const words = t.value;
  const seal = sealOf(row.signature, row.digest);
  const c = statusClass(row);
  return [
    clockText(row.started, local.value).slice(0, 8),
    words.toHost(book.value.short(row.from), book.value.short(row.to)),
    kindWord(row, words),
    plain(sentence(row, lang.value, book.value, true)),
    row.status === null ? words.noAnswer : `${row.status}${c === 'ok' ? '' : ` ${words.statusWords[c]}`}`,
    words.signatureIs(seal === 'mismatch' ? words.mismatch : words.verdicts[seal]),
    row.reason && reasonWord(row.reason, words),
    row.gaps > 0 && words.markGap,
    row.lint_errors > 0 && words.markLintError,
    row.lint_warnings > 0 && words.markLintWarn,
    cause && causedBy(cause, proven),
  ]
    .filter(Boolean)
    .join(words.comma);
}

/** Activities that bring a note along. */
const CARRIES_TEXT = new Set(['Create', 'Update']);

/** The marks of a row, the weightiest first; `most` of them, as there is room. The detail has them all. */
function Marks({ row, most }: { row: Row; most: number }): JSX.Element {
  const words = t.value;
  const marks: JSX.Element[] = [];
  if (row.gaps > 0) marks.push(<Mark name="gap" label={words.markGap} />);
  if (row.lint_errors > 0) marks.push(<Mark name="lint-error" label={words.markLintError} />);
  else if (row.lint_warnings > 0) marks.push(<Mark name="lint-warn" label={words.markLintWarn} />);
  if (row.anomalies > 0) marks.push(<Mark name="anomaly" label={words.markAnomaly} />);
  if (row.websocket) marks.push(<Mark name="websocket" label={words.markWebSocket} />);
  return <>{marks.slice(0, most)}</>;
}

export interface RowProps {
  row: Row;
  index: number | null;
  top: number;
  active: boolean;
  selected: boolean;
  fresh: boolean;
  layout: 'full' | 'beside' | 'phone';
  /** The gutter: the lanes of [`Cell`] and the height of what stands between this row and the one before. */
  lines: string;
  /** Lanes that are brought forward. */
  hot: number;
  /** Hangs together with what the reader points at. */
  kin: boolean;
  cause: Row | null;
  proven: boolean;
}

export function RowView({ row, index, top, active, selected, fresh, layout, lines, hot, kin, cause, proven }: RowProps): JSX.Element {
  const words = t.value;
  const from = book.value.get(row.from);
  const to = book.value.get(row.to);
  const delivery = isDelivery(row);
  const bad = trouble(row);
  const parts = sentence(row, lang.value, book.value, true);
  const reason = row.reason ? reasonWord(row.reason, words) : null;
  const hidden = !CARRIES_TEXT.has(row.activity ?? '') || row.excerpt !== null ? null : row.visibility === 'direct' ? words.hidden.direct : row.visibility === 'followers' ? words.hidden.followers : null;
  const classes = ['row', delivery ? 'delivery' : 'fetch', bad === 'none' ? '' : bad, row.gaps > 0 ? 'lossy' : '', selected ? 'selected' : '', fresh ? 'fresh' : '', kin ? 'kin' : ''].filter(Boolean).join(' ');
  const common = {
    role: 'row',
    id: `row-${row.id}`,
    'data-id': row.id,
    class: classes,
    tabIndex: active ? 0 : -1,
    'aria-selected': selected,
    'aria-label': spoken(row, cause, proven),
    ...(index === null ? {} : { 'aria-rowindex': index + 2 }),
    style: { top: `${top}px` },
  } as const;

  if (layout === 'phone') {
    return (
      <div {...common}>
        <span class="stack" role="gridcell">
          <Badge host={from} />
          <span class="chevron" aria-hidden="true" />
          <Badge host={to} />
        </span>
        <span class="two" role="gridcell">
          <span class="first">
            <time dateTime={row.started}>{clockText(row.started, local.value).slice(0, 8)}</time>
            <span class="kind">{kindWord(row, words)}</span>
            {reason && <span class="reason">{reason}</span>}
            <span class="end">
              <Marks row={row} most={1} />
              <Signature signature={row.signature} digest={row.digest} gaps={row.gaps} />
              {!reason && row.took_us !== null && (
                <span class="num">
                  <Unit of={duration(row.took_us)} />
                </span>
              )}
              <Status row={row} />
            </span>
          </span>
          <span class="sentence">
            <Sentence parts={parts} />
          </span>
        </span>
      </div>
    );
  }

  const full = layout === 'full';
  const [lane = 0, up = 0, down = 0, came = -1, into = -1, before = 0] = lines.split(' ').map(Number);
  const drawn = up || down || into >= 0 ? { lane, up, down, from: came, into } : null;
  const body = delivery || (row.answered ?? 0) === 0 ? row.sent : row.answered;
  const cell = (name: Chosen['name']): JSX.Element | JSX.Element[] | null => {
    switch (name) {
      case 'kind':
        return (
          <span role="gridcell" class="kind" key={name}>
            <KindIcon kind={row.kind} />
            <span class="cutend">{kindWord(row, words)}</span>
          </span>
        );
      case 'meaning':
        return [
          <span class="gutter" aria-hidden="true" key="gutter" title={cause ? causedBy(cause, proven) : undefined}>
            {drawn && <Lines cell={drawn} hot={hot} before={before} height={27} />}
            <i class="dot" style={{ left: `${FIRST - 3.5 + lane * LANE}px` }} />
          </span>,
          <span role="gridcell" class="meaning" key={name}>
            <span class="sentence" title={plain(sentence(row, lang.value, book.value))}>
              <Sentence parts={parts} />
            </span>
            {hidden ? (
              <span class="excerpt">
                <Icon name="lock" /> {hidden}
              </span>
            ) : (
              row.excerpt &&
              !reason && <span class="excerpt">{row.excerpt}</span>
            )}
            {reason && <span class="reason">{reason}</span>}
          </span>,
        ];
      case 'request':
        return full ? (
          <span role="gridcell" class="request" key={name} title={row.target ?? undefined}>
            {row.method} {row.target === null ? '' : shortTarget(row.target, Math.max(8, requestChars.value - (row.method?.length ?? 0) - 1))}
          </span>
        ) : null;
      case 'status':
        return (
          <span role="gridcell" class="num" key={name}>
            <Status row={row} />
          </span>
        );
      case 'took':
        return (
          <span role="gridcell" class="num took" key={name}>
            {row.took_us === null ? '' : <Unit of={duration(row.took_us)} />}
          </span>
        );
      case 'body':
        return full ? (
          <span role="gridcell" class="num body" key={name}>
            {body === null || body === 0 ? (
              ''
            ) : (
              <>
                <i aria-hidden="true">{body === row.sent && (delivery || row.answered === 0) ? '↑' : '↓'}</i> <Unit of={size(body)} />
              </>
            )}
          </span>
        ) : null;
      case 'signature':
        return (
          <span role="gridcell" class="sig" key={name}>
            <Signature signature={row.signature} digest={row.digest} gaps={row.gaps} />
            {full && row.scheme && <span class="scheme">{row.scheme === 'rfc9421' ? '9421' : row.scheme}</span>}
          </span>
        );
    }
  };
  return (
    <div {...common}>
      <span role="gridcell" class="time">
        <time dateTime={row.started} title={row.started}>
          <Time at={row.started} />
        </time>
      </span>
      <span role="gridcell" class="hosts" title={`${row.from}${row.from_software ? ` (${row.from_software})` : ''} → ${row.to}`}>
        <Badge host={from} />
        {full && <span class="host">{keepEnd(from.short, hostChars.value)}</span>}
        <Icon name="arrow" />
        <Badge host={to} />
        {full && <span class="host">{keepEnd(to.short, hostChars.value)}</span>}
      </span>
      {columns.value.map((c) => cell(c.name))}
      <span role="gridcell" class="marks">
        <Marks row={row} most={full ? 2 : 1} />
      </span>
    </div>
  );
}

// The frame of the page: top bar, banners, footer, and the states in which there is no list to show.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import { api, type Status } from './api';
import { clock, clockText, grouped, nanos, timeOf, timeOfId } from './format';
import { chipText } from './filter/filter';
import { expression } from './filter/chips';
import { Icon, Logo, Mark } from './shapes';
import { chips, connection, dialog, done, feed, go, hrefOf, lang, lastEvent, local, openList, place, retryNow, setChips, setPaused, setView, status, t, theme, lossDismissed } from './state';

function Link({ change, children, class: c, current, page }: { change: Parameters<typeof hrefOf>[0]; children: JSX.Element | string; class?: string; current?: boolean; page?: string }): JSX.Element {
  return (
    <a
      href={hrefOf(change)}
      class={c}
      data-page={page}
      aria-current={current ? 'page' : undefined}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(change);
      }}
    >
      {children}
    </a>
  );
}

const rateText = (rate: number) => (rate === 0 ? '0' : rate < 10 ? rate.toFixed(1) : String(Math.round(rate)));

/** Live, paused, connecting, disconnected; for a file, how far it has been read. */
function State(): JSX.Element | null {
  const w = t.value;
  const { state } = connection.value;
  const s = status.value;
  if (state === 'down')
    return (
      <span class="state down">
        <Icon name="plug" /> {w.disconnected}
      </span>
    );
  if (s && s.source.kind !== 'live' && (done.value || !s.source.reading)) return null;
  if (feed.paused.value)
    return (
      <button type="button" class="state" title={w.resume} onClick={() => setPaused(false)}>
        <Icon name="pause" /> {w.paused}
      </button>
    );
  return (
    <button type="button" class="state" title={w.pause} onClick={() => setPaused(true)}>
      <i class={`lamp ${state === 'up' ? '' : 'off'}`} />
      {state === 'connecting' ? w.connecting : s?.source.kind === 'file' ? w.reading(s.source.percent) : w.live}
      <small>{w.perSecond(rateText(feed.rate.value))}</small>
    </button>
  );
}

export function TopBar(): JSX.Element {
  const w = t.value;
  const s = status.value;
  const lost = s?.lost.frames ?? 0;
  const gaps = s?.lost.gaps ?? 0;
  const down = connection.value.state === 'down';
  const [nodeCount, nodeWord] = w.nodes(down ? '0 / 1' : '1');
  const [lostCount, lostWord] = w.lost(lost > 0 ? lost : gaps);
  const name = s?.source.name.split('/').at(-1) ?? '';
  return (
    <header class="topbar">
      <a class="skip" href="#list" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>('.row[tabindex="0"]')?.focus(); }}>
        {w.skipToList}
      </a>
      <Link change={{ page: 'list', id: '', panel: null, sel: '', at: '' }} class="brand" page={w.exchanges}>
        <>
          <Logo />
          <b>fedisniff</b>
        </>
      </Link>
      <nav>
        <Link change={{ page: 'list', id: '', panel: null }} current={place.value.page === 'list'}>
          {w.exchanges}
        </Link>
      </nav>
      <span class="grow" />
      {s && (
        <span class="facts">
          {s.source.kind === 'live' ? (
            <span title={s.node ?? undefined}>
              <Icon name="server" /> <b>{nodeCount}</b> {nodeWord}
            </span>
          ) : (
            <span class="sourcename" title={s.source.name}>
              <Icon name="file" /> <b>{name}</b>
            </span>
          )}
          <span title={w.lostTitle(lost, s.lost.gap_bytes, gaps)} class={lost > 0 || gaps > 0 ? 'lossy' : ''}>
            {lost > 0 || gaps > 0 ? <Mark name="gap" label={w.markGap} /> : <Icon name="check" />} <b>{lostCount}</b> {lostWord}
          </span>
        </span>
      )}
      <State />
      <span class="tools">
        <button type="button" class="finder" title={w.find} onClick={() => (dialog.value = 'find')}>
          <span class="off-screen">{w.find}</span>
          <Icon name="search" /> <kbd>Ctrl K</kbd>
        </button>
        <button type="button" class="plain" title={w.language} aria-label={w.language} onClick={() => go({ lang: lang.value === 'ja' ? 'en' : 'ja' }, 'replace')}>
          {w.short}
        </button>
        <button type="button" class="plain" title={w.themeTo[theme.value === 'dark' ? 'light' : 'dark']} aria-label={w.themeTo[theme.value === 'dark' ? 'light' : 'dark']} onClick={() => go({ theme: theme.value === 'dark' ? 'light' : 'dark' }, 'replace')}>
          <Icon name={theme.value === 'dark' ? 'sun' : 'moon'} />
        </button>
      </span>
    </header>
  );
}

export function Banners(): JSX.Element {
  const w = t.value;
  const s = status.value;
  const c = connection.value;
  const seconds = useSignal(0);
  useEffect(() => {
    if (c.state !== 'down') return;
    const tick = () => (seconds.value = Math.max(0, Math.ceil((c.retryAt - performance.now()) / 1000)));
    tick();
    const timer = window.setInterval(tick, 250);
    return () => clearInterval(timer);
  }, [c]);
  const down = w.downBanner(lastEvent.value ? clockText(lastEvent.value, local.value).slice(0, 8) : null, s?.source.kind === 'live');
  const lostKey = s ? `${s.lost.frames} ${s.lost.gaps}` : '';
  const loss = s && (s.lost.frames > 0 || s.lost.gaps > 0) && lossDismissed.value !== lostKey;
  return (
    <>
      {c.state === 'down' && (
        <div class="banner err" role="alert">
          <Icon name="plug" />
          <span>
            <b>{down[0]}</b>
            {down[1]}
          </span>
          <span class="grow" />
          <span class="dim">{seconds.value > 0 ? w.retryIn(seconds.value) : w.retrying}</span>
          <button type="button" class="button" onClick={retryNow}>
            {w.tryNow}
          </button>
        </div>
      )}
      {s?.error && (
        <div class="banner err" role="alert">
          <Icon name="info" />
          <span>
            <b>{w.sourceError('')[0]}</b>
            {w.sourceError(s.error)[1]}
          </span>
        </div>
      )}
      {loss && <LossBanner lost={s.lost} dismiss={() => (lossDismissed.value = lostKey)} />}
    </>
  );
}

/** Interfaces that the banner names; the tooltip has all that are known. */
const NAMED = 2;

/** How much was lost, where and when; what it touched; and what to change so that it does not happen again. */
function LossBanner({ lost, dismiss }: { lost: Status['lost']; dismiss: () => void }): JSX.Element {
  const w = t.value;
  const change = useSignal(false);
  const [from, to] = [lost.from ?? '', lost.to ?? ''].map((at) => at && clockText(at, local.value));
  // Tenths of a second, unless both are in the same.
  const digits = from?.slice(0, 10) === to?.slice(0, 10) ? 12 : 10;
  const known = lost.interfaces.flatMap((at) => (at.name === null ? [] : [at.name]));
  const rest = [
    w.lossAt(known.slice(0, NAMED), known.length - Math.min(NAMED, known.length)),
    from && to ? w.lossSpan(from.slice(0, digits), to.slice(0, digits)) : '',
    lost.frames > 0 ? w.lossSaid : '',
    w.lossTouched(lost.exchanges),
  ].join('');
  // The end is not part of a span; where only frames are known to be lost, what is near is shown.
  const near = lost.exchanges > 0 ? 0n : 1_000_000_000n;
  const show = () =>
    lost.from &&
    lost.to &&
    go({ page: 'list', id: '', panel: null, sel: '', at: '', q: lost.exchanges > 0 ? 'size(gaps) > 0' : '', from: timeOf(nanos(lost.from) - near), to: timeOf(nanos(lost.to) + near + 1n), v: 'all' });
  return (
    <div class="banner warn" role="status">
      <Mark name="gap" label={w.markGap} />
      <span title={known.length > NAMED ? known.join(w.comma) : undefined}>
        <b>{lost.frames > 0 ? w.lossBanner(lost.frames) : w.gapBanner(lost.gaps, lost.gap_bytes)}</b>
        {rest}
      </span>
      <span class="grow" />
      {lost.from && (
        <button type="button" class="link" onClick={show}>
          {w.showThem}
        </button>
      )}
      <span class="why">
        <button type="button" class="link" aria-expanded={change.value} onClick={() => (change.value = !change.value)}>
          {w.whatToChange}
        </button>
        {change.value && (
          <span class="whybox below" role="note">
            {(lost.frames > 0 ? w.changeFrames : w.changeGaps).map((part, i) => (i % 2 === 1 ? <code>{part}</code> : part))}
          </span>
        )}
      </span>
      <button type="button" class="tool" aria-label={w.dismiss} title={w.dismiss} onClick={dismiss}>
        <Icon name="x" />
      </button>
    </div>
  );
}

export function Footer(): JSX.Element {
  const w = t.value;
  const count = feed.count.value;
  const why = useSignal(false);
  const down = connection.value.state === 'down';
  const hidden = count?.hidden ?? 0;
  const lossless = status.value !== null && status.value.lost.frames === 0 && status.value.lost.gaps === 0;
  const key = (name: string) => <kbd>{name}</kbd>;
  return (
    <footer class="footer">
      {down ? (
        <>
          <span class="errink">
            <Icon name="plug" /> {w.notLive}
          </span>
          {lastEvent.value && <span>{w.lastEvent(clockText(lastEvent.value, local.value))}</span>}
        </>
      ) : (
        <>
          {place.value.page === 'exchange' ? (
            <span class="mono">/e/{place.value.id}</span>
          ) : hidden > 0 && place.value.v === 'federation' ? (
            <span class="why">
              {w.hiddenBy(hidden)}{' '}
              <button type="button" class="link" aria-expanded={why.value} onClick={() => (why.value = !why.value)}>
                {w.why}
              </button>
              {why.value && (
                <span class="whybox" role="note">
                  {w.hiddenWhy}{' '}
                  <button
                    type="button"
                    class="link strong"
                    onClick={() => {
                      why.value = false;
                      setView('all');
                    }}
                  >
                    {w.showEverything}
                  </button>
                </span>
              )}
            </span>
          ) : (
            <span>{lossless ? w.nothingHiddenLost : w.nothingHidden}</span>
          )}
          {place.value.page === 'list' && (
            <span>
              {w.viewIs}
              <b>{w.views[place.value.v]}</b>
            </span>
          )}
        </>
      )}
      <span class="grow" />
      <span class="hints" aria-hidden="true">
        {place.value.page === 'list' && (
          <>
            <span>
              {key('j')} {key('k')} {w.move}
            </span>
            <span>
              {key('Enter')} {w.open}
            </span>
          </>
        )}
        {place.value.page === 'exchange' && (
          <>
            <span>
              {key('1')} … {key('6')} {w.panelsHint}
            </span>
            <span>
              {key('h')} {key('l')} {w.chainHint}
            </span>
          </>
        )}
        <button type="button" tabIndex={-1} onClick={() => (dialog.value = 'keys')}>
          {key('?')} {w.allKeys}
        </button>
      </span>
    </footer>
  );
}

const PROTOCOLS: Record<string, string> = { tls: 'TLS', ssh: 'SSH', postgres: 'PostgreSQL', redis: 'Redis', dns: 'DNS', 'proxy-protocol': 'PROXY', unknown: '?' };

/** Nothing was seen at all: what is watched, what arrived, and what to do. */
export function Empty(): JSX.Element | null {
  const w = t.value;
  const s = status.value;
  if (!s) return null;
  const arriving = s.interfaces.some((i) => i.frames > 0);
  const live = s.source.kind === 'live' || s.source.reading;
  const hidden = feed.count.value?.hidden ?? 0;
  return (
    <div class="blank">
      <h1>{live ? w.emptyLive : s.source.kind === 'file' ? w.emptyFile : w.emptyStore}</h1>
      <p>{live ? w.emptyLiveWhy(arriving) : s.source.kind === 'file' ? w.emptyFileWhy(s.source.name) : w.emptyStoreWhy(s.store.path)}</p>
      {!live && s.counters && (
        <p>
          {[w.emptyCounted(s.counters.flow.frames, s.counters.flow.flows), ...Object.entries(s.counters.http.other_flows).map(([name, n]) => w.emptyOther(n, PROTOCOLS[name] ?? name))].join(w.comma)}
        </p>
      )}
      {s.interfaces.length > 0 && (
        <table class="table framed">
          <thead>
            <tr>
              <th>{w.watched}</th>
              <th class="num">{w.packets}</th>
              <th>{w.seen}</th>
            </tr>
          </thead>
          <tbody>
            {s.interfaces.map((i) => (
              <tr>
                <td class="mono">{i.name}</td>
                <td class="num">{grouped(i.frames)}</td>
                <td class="dim">{i.frames > 0 ? w.seenPackets : w.seenNothing}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <h2>{w.toSee}</h2>
      <ol>
        {(live ? w.toSeeLive : w.toSeeFile).map((parts) => (
          <li>{parts.map((part, i) => (i % 2 === 1 ? <code>{part}</code> : part))}</li>
        ))}
        {place.value.v === 'federation' && (live || hidden > 0) && (
          <li>
            {w.hiddenByView}
            <span class="chip view">{w.views.federation}</span>{' '}
            <button type="button" class="link" onClick={() => setView('all')}>
              {w.showEverything}
              {hidden > 0 ? ` (${grouped(hidden)})` : ''}
            </button>
          </li>
        )}
      </ol>
    </div>
  );
}

/** There is something, but nothing that matches: each condition with what there would be without it. */
export function Nothing(): JSX.Element {
  const w = t.value;
  const { v, from, to } = place.value;
  const now = chips.value;
  const counts = useSignal<(number | null)[]>([]);
  const conditions: { label: string; without: () => void; query: { q: string; v: typeof v; from: string; to: string } }[] = now.map((chip, i) => {
    const rest = now.filter((_, at) => at !== i);
    const text = chipText(chip, w);
    return { label: `${text.label} ${text.value}`.trim(), without: () => setChips(rest), query: { q: expression(rest), v, from, to } };
  });
  const q = place.value.q;
  if (v === 'federation') conditions.push({ label: w.views.federation, without: () => setView('all'), query: { q, v: 'all', from, to } });
  if (from || to) conditions.push({ label: [from, to].map((x) => x && clockText(x, local.value).slice(0, 8)).join('–'), without: () => go({ from: '', to: '', at: '' }), query: { q, v, from: '', to: '' } });
  useEffect(() => {
    const abort = new AbortController();
    counts.value = conditions.map(() => null);
    conditions.forEach((c, i) => {
      api.count(c.query, abort.signal).then(
        (n) => {
          if (!abort.signal.aborted) counts.value = counts.value.map((old, at) => (at === i ? n.matched : old));
        },
        () => {},
      );
    });
    return () => abort.abort();
  }, [q, v, from, to]);
  // The guilty one is the condition without which there would be most.
  const most = Math.max(...counts.value.map((n) => n ?? 0));
  const guilty = most > 0 ? counts.value.indexOf(most) : -1;
  return (
    <div class="blank">
      <h1>{w.nothing}</h1>
      <p>{w.nothingWhy}</p>
      <ul class="guilty">
        {conditions.map((c, i) => (
          <li>
            <span class="chip">{c.label}</span>
            <span class="dim">{counts.value[i] == null ? '…' : w.without(grouped(counts.value[i] ?? 0))}</span>
            {i === guilty && (
              <button type="button" class="button" onClick={c.without}>
                {w.removeIt}
              </button>
            )}
          </li>
        ))}
      </ul>
      {guilty < 0 && (
        <p>
          <button type="button" class="button" onClick={() => go({ q: '', from: '', to: '', at: '', v: 'all' })}>
            {w.clearFilter}
          </button>
        </p>
      )}
    </div>
  );
}

/** An unfinished search that has found nothing yet. */
export function Searching(): JSX.Element {
  const w = t.value;
  const at = feed.scanned.value;
  return (
    <div class="blank">
      <h1>{w.searching}</h1>
      <p>{at && w.searchedTo(`${clock(timeOfId(at), local.value).day} ${clockText(timeOfId(at), local.value)}`)}</p>
    </div>
  );
}

export function Failed(): JSX.Element {
  const w = t.value;
  const error = feed.error.value;
  if (error?.code === 'bad-filter')
    return (
      <div class="blank">
        <h1>{w.filterFailed}</h1>
        <p>
          <button type="button" class="button" onClick={() => setChips([])}>
            {w.clearFilter}
          </button>
        </p>
      </div>
    );
  return (
    <div class="blank">
      <h1>{w.loadFailed}</h1>
      <p class="errink">{error?.message}</p>
      {error?.help && <p>{error.help}</p>}
      <p>
        <button type="button" class="button" onClick={() => void openList()}>
          {w.retry}
        </button>
      </p>
    </div>
  );
}

// The page: which of its parts are shown.

import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import { DetailPane, ExchangePage } from './detail/detail';
import { Find, Keys } from './dialogs';
import { Filter } from './filter/filter';
import { Banners, Empty, Failed, Footer, Nothing, Searching, TopBar } from './frame';
import { NotFinished } from './list/inflight';
import { List } from './list/list';
import { Strip } from './strip/strip';
import { announcement, chips, dialog, fatal, feed, openRow, place, slow, t } from './state';
import { plain, sentence } from './sentence';
import { book, lang } from './state';

function Center(): JSX.Element | null {
  const rows = feed.rows.value;
  if (rows.length > 0) return <List />;
  const error = feed.error.value;
  if (error && error.code !== 'bad-filter') return <Failed />;
  if (!feed.ready.value) return error ? <Failed /> : <div class="blank" />;
  if (feed.moreBefore.value || feed.moreAfter.value) return <Searching />;
  const count = feed.count.value;
  const { from, to } = place.value;
  return (count && count.total === 0) || (chips.value.length === 0 && !from && !to && count?.hidden === 0) ? <Empty /> : <Nothing />;
}

export function App(): JSX.Element {
  const w = t.value;
  const row = openRow.value;
  useEffect(() => {
    document.title = row ? `${plain(sentence(row, lang.value, book.value))} · fedisniff` : 'fedisniff';
  }, [row, lang.value, book.value]);
  if (fatal.value)
    return (
      <div class="blank">
        <h1>fedisniff</h1>
        <p>{w.unauthorized}</p>
      </div>
    );
  const page = place.value.page;
  return (
    <div class={`app at-${page}`}>
      <TopBar />
      <Banners />
      {page === 'list' ? (
        <>
          <Filter />
          <div class={`loading ${slow.value ? 'on' : ''}`} role="presentation" />
          <Strip />
          <main class="middle">
            <Center />
            <DetailPane />
          </main>
          {feed.rows.value.length === 0 && <NotFinished />}
        </>
      ) : (
        <ExchangePage />
      )}
      <Footer />
      <div class="off-screen" role="status" aria-live="polite">
        {announcement.value}
      </div>
      {dialog.value === 'keys' && <Keys />}
      {dialog.value === 'find' && <Find />}
    </div>
  );
}

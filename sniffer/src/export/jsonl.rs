//! One exchange a line, as `fedisniff.exchange/1` ([`crate::view`]).

use std::io::{self, Write};

use crate::activitypub::Reading;
use crate::http::Exchange;
use crate::view::ExchangeView;

pub(super) fn line(
    to: &mut dyn Write,
    node: Option<&str>,
    exchange: &Exchange,
    reading: &Reading,
) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &ExchangeView::new(node, exchange, reading))?;
    to.write_all(b"\n")
}

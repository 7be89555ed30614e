//! The built page (`ui/dist/`), embedded: every address of the viewer answers with `index.html`, in which the base is
//! set to where the viewer is served, and files with a hash in their name may be kept by browsers for good.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::gate::Refusal;

#[derive(RustEmbed)]
#[folder = "../ui/dist/"]
#[allow_missing = true]
struct Built;

/// Where the pages live: the first part of their paths.
const PAGES: [&str; 6] = ["e", "c", "servers", "isolation", "health", "diff"];

/// Whether a path is one of the page's own addresses.
pub(super) fn is_page(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    path.is_empty() || path == "index.html" || PAGES.contains(&first)
}

/// The page, served below `base`, which ends with a slash and is free of anything that HTML would read.
pub(super) fn page(base: &str) -> Response {
    match Built::get("index.html") {
        Some(file) => Html(with_base(&String::from_utf8_lossy(&file.data), base)).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            Html("<!doctype html><title>fedisniff</title><p>The viewer's page is not part of this build. Run <code>cargo xtask ui</code> and build again. The API is at <code>api/</code>."),
        )
            .into_response(),
    }
}

/// Sets `<base href>`, which stands before anything that is relative to it.
pub(super) fn with_base(html: &str, base: &str) -> String {
    let element = format!("<base href=\"{base}\">");
    let old = html.find("<base ").and_then(|at| {
        let (before, rest) = html.split_at_checked(at)?;
        Some((before, rest.split_once('>')?.1))
    });
    match old.or_else(|| html.find("<head>").and_then(|at| html.split_at_checked(at.saturating_add(6)))) {
        Some((before, after)) => format!("{before}{element}{after}"),
        None => format!("{element}{html}"),
    }
}

/// A file of the build.
pub(super) fn file(path: &str) -> Result<Response, Refusal> {
    let Some(file) = Built::get(path) else { return Err(Refusal::not_found("there is no such page")) };
    Ok(answer(path, file))
}

fn answer(path: &str, file: EmbeddedFile) -> Response {
    let mut response = file.data.into_owned().into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(file.metadata.mimetype());
    headers
        .insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    if path.starts_with("assets/") {
        let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, kept);
    }
    response
}

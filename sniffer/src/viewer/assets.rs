//! The built page (`ui/dist/`), embedded: every address of the viewer answers with `index.html`, in which the base is
//! set to where the viewer is served, and files with a hash in their name may be kept by browsers for good.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::EmbeddedFile;

use super::gate::Refusal;

/// Where the pages live: the first part of their paths.
const PAGES: [&str; 6] = ["e", "c", "servers", "isolation", "health", "diff"];

/// Whether a path is one of the page's own addresses.
pub(super) fn is_page(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    path.is_empty() || path == "index.html" || PAGES.contains(&first)
}

/// The page, served below `base`, which ends with a slash and is free of anything that HTML would read.
pub(super) fn page(base: &str) -> Response {
    match built::file("index.html") {
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
    let Some(file) = built::file(path) else { return Err(Refusal::not_found("there is no such page")) };
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

#[cfg(not(test))]
mod built {
    #[derive(rust_embed::RustEmbed)]
    #[folder = "../ui/dist/"]
    #[allow_missing = true]
    pub(super) struct Files;

    pub(super) fn file(path: &str) -> Option<rust_embed::EmbeddedFile> {
        <Files as rust_embed::RustEmbed>::get(path)
    }
}

/// A page of two files, so that the tests of the server do not depend on what was built.
#[cfg(test)]
mod built {
    use rust_embed::{EmbeddedFile, Metadata};

    pub(super) fn file(path: &str) -> Option<EmbeddedFile> {
        let (data, kind): (&[u8], _) = match path {
            "index.html" => {
                (b"<!doctype html><head><base href=\"/\" /><title>page</title></head>", "text/html")
            }
            "assets/page-1a2b3c.js" => (b"page()", "text/javascript"),
            _ => return None,
        };
        let metadata = Metadata::__rust_embed_new([0; 32], None, None, kind);
        Some(EmbeddedFile { data: data.into(), metadata })
    }
}

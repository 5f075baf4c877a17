//! The portal on a phone: what a browser needs to install it, and one page for when there is no connection. A device
//! keeps public files only.

use std::sync::{Arc, LazyLock};

use alloy_primitives::hex;
use axum::{
    Router,
    extract::RawQuery,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use maud::html;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    assets,
    form::Fields,
    front::Portal,
    page::{Page, Rendered},
    text::{self, Language},
};

pub(crate) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/manifest.webmanifest", get(manifest))
        .route("/sw.js", get(worker))
        .route("/offline", get(offline))
}

/// Colours of the bar around the pages: `--surface` of the style.
pub(crate) const LIGHT: &str = "#ffffff";
pub(crate) const DARK: &str = "#1c2226";
/// `--page` of the style.
const GROUND: &str = "#f4f3f0";

/// `GET /manifest.webmanifest`: the W3C Web Application Manifest.
async fn manifest() -> impl IntoResponse {
    let icon = |name, size: &str, purpose: &str| json!({ "src": assets::address(name), "sizes": size, "type": "image/png", "purpose": purpose });
    let manifest = json!({
        "name": text!("Stele health record"),
        "short_name": "Stele",
        "id": "/",
        "start_url": "/",
        "scope": "/",
        "display": "standalone",
        "lang": text::language().code(),
        "theme_color": LIGHT,
        "background_color": GROUND,
        "icons": [
            icon("icon-192.png", "192x192", "any"),
            icon("icon-512.png", "512x512", "any"),
            icon("icon-512.png", "512x512", "maskable"),
        ],
    });
    let kind = [(CONTENT_TYPE, "application/manifest+json")];
    (kind, manifest.to_string())
}

/// What a device keeps: style, fonts, pictures and scripts that everybody gets, and the page that says "offline". One for
/// each language, so that the page is in that of the pages before.
static WORKERS: LazyLock<Vec<(Language, String)>> = LazyLock::new(|| {
    let languages = Language::ALL.into_iter();
    languages.map(|one| (one, worker_for(one))).collect()
});

fn worker_for(language: Language) -> String {
    let page = format!("/offline?language={}", language.code());
    let mut kept: Vec<&str> = assets::public();
    kept.extend(text::browser(language).map(|one| one.address.as_str()));
    kept.push(&page);
    let files = json!(kept).to_string();
    let digest = hex::encode(Sha256::digest(&files));
    let name = format!("stele-{}", digest.get(..16).unwrap_or_default());
    include_str!("../assets/sw.js")
        .replace("/*NAME*/", &name)
        .replace("/*FILES*/", &files)
        .replace("/*PAGE*/", &page)
}

/// `GET /sw.js?language=en`: asked for anew each time, so that a new program's files take the place of the old one's.
async fn worker(RawQuery(query): RawQuery) -> impl IntoResponse {
    let language = asked(query.as_deref());
    let worker = WORKERS.iter().find(|(one, _)| *one == language);
    let worker = worker.map_or("", |(_, text)| text.as_str());
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, worker)
}

/// The language that an address names; that of the request where it names none.
fn asked(query: Option<&str>) -> Language {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    Language::from_code(fields.text("language")).unwrap_or_else(text::language)
}

/// `GET /offline?language=en`
async fn offline(RawQuery(query): RawQuery) -> Rendered {
    text::spoken(asked(query.as_deref()), offline_page)
}

fn offline_page() -> Rendered {
    let main = html! {
        div.flow {
            h1 { (text!("You are offline")) }
            p { (text!("This device has no connection to your record now. Nothing of the record is kept on the device, so there is nothing to show until you are connected again.")) }
            p { (text!("What you had already sent is safe. If you need help now, call your practice or, in an emergency, your local emergency number.")) }
            div.actions { a.btn.primary href="/" { (text!("Try again")) } }
        }
    };
    Page::new(text!("You are offline"), main)
        .narrow()
        .render(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No address of a page with somebody's data is ever kept on a device.
    #[test]
    fn a_device_keeps_public_files_only() {
        for (language, worker) in WORKERS.iter() {
            check(*language, worker);
        }
    }

    fn check(language: Language, worker: &str) {
        assert!(!worker.contains("/*"), "the placeholders are filled");
        let list = worker
            .lines()
            .find_map(|line| line.strip_prefix("const FILES = "))
            .and_then(|line| line.strip_suffix(';'))
            .expect("a list");
        let files: Vec<String> = serde_json::from_str(list).expect("JSON");
        assert!(files.len() > 5);
        for file in files {
            let page = format!("/offline?language={}", language.code());
            assert!(file.starts_with("/assets/") || file == page, "{file}");
        }
    }
}

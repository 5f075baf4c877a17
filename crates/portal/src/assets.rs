//! Style, script, icons and fonts, embedded. Each is served under a name that contains its digest, so that a browser
//! may keep it for good and never mixes two versions.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_primitives::hex;
use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};

mod modules;
mod packed;

use modules::MODULES;
use packed::Packed;

use crate::text::{self, Language};

struct Assets {
    files: BTreeMap<String, Packed>,
    names: BTreeMap<&'static str, String>,
}

macro_rules! embedded {
    ($($name:literal: $kind:literal),* $(,)?) => {
        [$(($name, $kind, include_bytes!(concat!("../assets/", $name)).as_slice())),*]
    };
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut assets = Assets {
        files: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    for (name, kind, content) in embedded![
        "fonts/atkinson-hyperlegible-next-latin-400-normal.woff2": "font/woff2",
        "fonts/atkinson-hyperlegible-next-latin-600-normal.woff2": "font/woff2",
        "fonts/atkinson-hyperlegible-next-latin-ext-400-normal.woff2": "font/woff2",
        "fonts/atkinson-hyperlegible-next-latin-ext-600-normal.woff2": "font/woff2",
        "drafts.js": "text/javascript; charset=utf-8",
        "icons.svg": "image/svg+xml",
        "mark.svg": "image/svg+xml",
        "icon-192.png": "image/png",
        "icon-512.png": "image/png",
        "portal.js": "text/javascript; charset=utf-8",
        "upload.js": "text/javascript; charset=utf-8",
        "wallet.js": "text/javascript; charset=utf-8",
    ] {
        let content = if name.ends_with(".js") {
            let script = String::from_utf8_lossy(content);
            // The one module that these share with the modules stands among those.
            script.replace("./own/text.js", &TEXTS).into_bytes()
        } else {
            content.to_vec()
        };
        assets.add(name, kind, content);
    }
    // The fonts' names stand in the style, so it comes last.
    let mut style = concat!(
        include_str!("../assets/tokens.css"),
        include_str!("../assets/portal.css")
    )
    .to_owned();
    for (name, address) in &assets.names {
        style = style.replace(&format!("url(\"{name}\")"), &format!("url(\"{address}\")"));
    }
    assets.add("portal.css", "text/css; charset=utf-8", style.into_bytes());
    assets
});

/// Address of the module that gives scripts their texts.
static TEXTS: LazyLock<String> = LazyLock::new(|| module("own/text.js"));

impl Assets {
    fn add(&mut self, name: &'static str, kind: &'static str, content: Vec<u8>) {
        let digest = hex::encode(Sha256::digest(&content));
        let digest = digest.get(..16).unwrap_or_default();
        let file = name.rsplit('/').next().unwrap_or(name);
        let (stem, end) = file.rsplit_once('.').unwrap_or((file, ""));
        let served = format!("{stem}-{digest}.{end}");
        self.names.insert(name, format!("/assets/{served}"));
        self.files.insert(served, Packed::new(kind, content.into()));
    }
}

/// Address of a module by its name in `assets/`. Modules name each other by relative addresses, so they stand under one
/// digest of them all.
pub(crate) fn module(name: &str) -> String {
    format!("/assets/{}/{name}", MODULES.digest)
}

/// `GET /assets/{digest}/{*name}`
pub(crate) async fn serve_module(
    Path((digest, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match MODULES.files.get(name.as_str()) {
        Some(file) if digest == MODULES.digest => file.answer(&headers),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Address of an asset by its name in `assets/`.
pub(crate) fn address(name: &'static str) -> &'static str {
    ASSETS.names.get(name).map_or("/assets/", String::as_str)
}

/// Addresses of all of them: what everybody gets, and a device may keep.
pub(crate) fn public() -> Vec<&'static str> {
    let names = ASSETS.names.values().map(String::as_str);
    names.chain([TEXTS.as_str()]).collect()
}

/// `GET /assets/{name}`
pub(crate) async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let file = ASSETS.files.get(&name).or_else(|| TEXT_FILES.get(&name));
    file.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |file| file.answer(&headers),
    )
}

/// What scripts say, in languages other than that of the sources.
static TEXT_FILES: LazyLock<BTreeMap<String, Packed>> = LazyLock::new(|| {
    let files = Language::ALL.into_iter().filter_map(text::browser);
    files
        .filter_map(|file| {
            let name = file.address.strip_prefix("/assets/")?.to_owned();
            let content = file.content.as_bytes().into();
            Some((name, Packed::new("application/json", content)))
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_contain_digests_and_are_served() {
        for address in ASSETS.names.values() {
            let name = address.strip_prefix("/assets/").expect("a prefix");
            assert!(ASSETS.files.contains_key(name), "{name}");
        }
        assert_ne!(address("portal.css"), "/assets/");
    }

    /// No page asks another host for anything.
    #[test]
    fn the_style_names_only_what_is_embedded() {
        let style = &ASSETS.files[address("portal.css").trim_start_matches("/assets/")];
        let style = std::str::from_utf8(style.plain()).expect("text");
        for part in style.split("url(").skip(1) {
            assert!(part.starts_with("\"/assets/"), "{}", &part[..60]);
        }
        assert!(!style.contains("@import"));
    }
}

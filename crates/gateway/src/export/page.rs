//! The page for people: a patient's record to read, print and keep. Self-contained, without script, and asking
//! nobody for anything.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use stele_core::export::{ExportRecord, PAGE_MARK, Page};
use stele_fhir::{
    category::{self, Category},
    words::{date, full_name, shown_value, status, text_at, title, when},
};
use stele_service::{Stored, export::Collected};

const STYLE: &str = include_str!("page.css");
const FOOT: &str = "</main><footer class=\"foot\"><div><span>Printed copies can’t be checked. Keep the file.</span></div></footer></body></html>\n";
const MARK: &str = r#"<svg aria-hidden="true" viewBox="0 0 18 24"><path fill-rule="evenodd" d="M0 24V9a9 9 0 0 1 18 0v15zM5 9.5v2h8v-2zm0 4.25v2h8v-2zM5 18v2h5v-2z"/></svg>"#;
const CHECK: &str =
    r#"<svg class="icon" aria-hidden="true" viewBox="0 0 24 24"><path d="M20 6 9 17l-5-5"/></svg>"#;

/// One line of the record.
struct Row {
    title: String,
    value: String,
    when: String,
    /// Day on which it was recorded, shown where nothing says when it happened.
    recorded: String,
    status: Option<&'static str>,
    record: String,
    index: u64,
    author: String,
    is_here: bool,
}

/// The page's policy: its own style by digest, nothing else.
pub(super) fn policy() -> String {
    use sha2::{Digest as _, Sha256};
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

/// Writes the page of a record.
pub(super) fn write(collected: &Collected) -> Page {
    let mut parts: Vec<(Option<Category>, Vec<Row>)> = Vec::new();
    let mut person = None;
    let proofs: BTreeMap<(&str, &str), &ExportRecord> = collected
        .proofs
        .records
        .iter()
        .map(|proof| ((proof.resource_type.as_str(), proof.id.as_str()), proof))
        .collect();
    for one in &collected.resources {
        let Some(proof) = proofs.get(&(one.resource_type.as_str(), one.id.as_str())) else {
            continue;
        };
        let Ok(value) = serde_json::from_str::<Value>(&one.text) else {
            continue;
        };
        if one.resource_type == "Patient" && one.id == collected.patient_id {
            person = Some(value.clone());
        }
        let is_patients = collected
            .proofs
            .logs
            .get(proof.log)
            .is_some_and(|log| log.proof.log == collected.proofs.patient);
        let part = is_patients.then(|| category::assign(&value));
        let row = row(one, &value, proof);
        match parts.iter_mut().find(|(of, _)| *of == part) {
            Some((_, rows)) => rows.push(row),
            None => parts.push((part, vec![row])),
        }
    }
    // The directory of people and places comes last.
    parts.sort_by_key(|(part, _)| part.map_or(u8::MAX, Category::number));
    for (_, rows) in &mut parts {
        rows.sort_by(|a, b| b.when.cmp(&a.when).then_with(|| a.title.cmp(&b.title)));
    }
    let count = parts.iter().map(|(_, rows)| rows.len()).sum();
    Page {
        before: before(collected, person.as_ref(), count),
        after: after(collected, &parts),
    }
}

/// A whole document around what stands in `main`. The title names nobody: it is seen over shoulders.
pub(super) fn document(title: &str, body: &str) -> String {
    format!("{}{body}{FOOT}", head(title))
}

/// Everything before the content.
fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\
         <meta name=\"generator\" content=\"stele {}\"><title>{}</title>\
         <style>{STYLE}</style></head>\n<body><a class=\"skip\" href=\"#main\">Skip to content</a>\
         <header class=\"top\"><div><span class=\"brand\">{MARK} Stele</span></div></header>\n\
         <main id=\"main\">",
        policy(),
        env!("CARGO_PKG_VERSION"),
        escaped(title)
    )
}

fn before(collected: &Collected, person: Option<&Value>, count: usize) -> String {
    let mut out = head("Health record – Stele");
    out.push_str("<div class=\"page-head\"><div class=\"tight\">");
    let name = person.map_or_else(|| "Health record".to_owned(), full_name);
    let _ = write!(out, "<h1>{}</h1>", escaped(&name));
    if let Some(person) = person {
        let born = text_at(person, "/birthDate");
        let sex = text_at(person, "/gender");
        let _ = write!(
            out,
            "<p>Born {} · {}</p>",
            escaped(&date(born)),
            escaped(if sex.is_empty() { "sex not known" } else { sex })
        );
    }
    let entries = if count == 1 { "entry" } else { "entries" };
    let _ = write!(
        out,
        "<p class=\"soft\">{count} {entries}, as they stood on {} at {} UTC. Signed by {}.</p></div>",
        escaped(&date(&collected.made.to_instant())),
        collected.made.to_instant().get(11..16).unwrap_or_default(),
        account(&collected.proofs.signer.account.to_string())
    );
    out.push_str(PAGE_MARK);
    out
}

fn after(collected: &Collected, parts: &[(Option<Category>, Vec<Row>)]) -> String {
    let mut out = String::with_capacity(64 << 10);
    out.push_str("\">Save as FHIR</a></div>\n");
    if !collected.proofs.withheld.is_empty() {
        out.push_str(
            "<section class=\"notice bad\"><h2>Left out</h2><p>What was stored for these entries is not what was \
             recorded, so they are held back. Ask whoever keeps them.</p><ul>",
        );
        for record in &collected.proofs.withheld {
            let _ = write!(out, "<li>{}</li>", escaped(record));
        }
        out.push_str("</ul></section>\n");
    }
    if parts.len() > 1 {
        out.push_str("<nav class=\"parts\" aria-label=\"Parts of the record\"><ul>");
        for (part, rows) in parts {
            let (anchor, heading) = heading(*part);
            let _ = write!(
                out,
                "<li><a href=\"#{anchor}\">{}</a> <span class=\"soft\">{}</span></li>",
                escaped(&heading),
                rows.len()
            );
        }
        out.push_str("</ul></nav>\n");
    }
    for (part, rows) in parts {
        let (anchor, heading) = heading(*part);
        let _ = writeln!(
            out,
            "<section class=\"part\" aria-labelledby=\"{anchor}\"><h2 id=\"{anchor}\">{}</h2>",
            escaped(&heading)
        );
        for row in rows {
            entry(&mut out, row);
        }
        out.push_str("</section>\n");
    }
    let _ = write!(
        out,
        "<section class=\"notice\"><h2>Check it yourself</h2><p>“Verified” means that an entry is exactly what was \
         recorded and that nothing has changed since. It does not say that it is clinically right. This file holds \
         the record and its proofs; no website and no organisation is needed to check them:</p>\
         <p><code>stele verify export health-record.html --genesis genesis.json</code></p>\
         <p class=\"small soft\">Account {} · {}</p></section>\n{FOOT}",
        account(&collected.proofs.patient.to_string()),
        collected
            .proofs
            .logs
            .first()
            .map_or_else(String::new, |log| {
                format!("{} recorded versions in the log", log.proof.size)
            })
    );
    out
}

/// Anchor and words of a part, beginning with a capital letter.
fn heading(part: Option<Category>) -> (&'static str, String) {
    let (anchor, words) = match part {
        Some(category) => (category.name(), category.plain_name()),
        None => ("people-and-places", "people and places"),
    };
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_uppercase());
    let words = first.into_iter().flatten().chain(letters).collect();
    (anchor, words)
}

fn entry(out: &mut String, row: &Row) {
    let when = if row.when.is_empty() {
        format!("Recorded {}", row.recorded)
    } else {
        date(&row.when)
    };
    let status = row
        .status
        .map(|status| format!(" <span class=\"tag\">{status}</span>"))
        .unwrap_or_default();
    let struck = if row.status == Some("Entered in error") {
        " class=\"struck\""
    } else {
        ""
    };
    let _ = write!(
        out,
        "<article class=\"entry\"><div class=\"what tight\"><h3{struck}>{}</h3><p class=\"small soft\">{}{status}</p></div>",
        escaped(&row.title),
        escaped(&when)
    );
    if !row.value.is_empty() {
        let _ = write!(
            out,
            "<div class=\"value-side\"><p class=\"value\">{}</p></div>",
            escaped(&row.value)
        );
    }
    let (word, sentence) = if row.is_here {
        (
            "Verified",
            "This is exactly what was recorded; nothing has changed since.",
        )
    } else {
        (
            "Recorded",
            "The entry is recorded. Its content is too large for this file and stays where it is kept.",
        )
    };
    let _ = writeln!(
        out,
        "<details class=\"verify ok\"><summary>{CHECK} {word}<span class=\"hide\">: {}</span></summary>\
         <div class=\"flow small\"><p>{sentence}</p><p>{} · entry {} of the log · written by {}</p></div></details></article>",
        escaped(&row.title),
        escaped(&row.record),
        row.index,
        account(&row.author)
    );
}

fn row(stored: &Stored, value: &Value, proof: &ExportRecord) -> Row {
    Row {
        title: title(&stored.resource_type, value),
        value: shown_value(value),
        when: when(value).to_owned(),
        recorded: date(&stored.last_updated.to_instant()),
        status: status(value),
        record: format!("{}/{}", stored.resource_type, stored.id),
        index: proof.index,
        author: proof.leaf.author.to_string(),
        is_here: proof.element_salt.is_some(),
    }
}

fn account(address: &str) -> String {
    format!("<code>{}</code>", escaped(address))
}

/// Text as HTML shows it, in elements and in attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a record holds can't become markup, nor the mark that the Bundle stands behind.
    #[test]
    fn text_stays_text() {
        let nasty = format!("<script>\"'&{PAGE_MARK}");
        let shown = escaped(&nasty);
        assert!(!shown.contains('<') && !shown.contains('"') && !shown.contains(PAGE_MARK));
    }

    #[test]
    fn the_page_asks_nobody() {
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(policy().starts_with("default-src 'none'"));
    }
}

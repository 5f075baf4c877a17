//! What the sources say is held against the catalogues. A literal that people would read and that no catalogue could
//! know, a message that a language lacks, has twice, with other arguments or for nothing: each fails here, by name.

mod scan;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use maud::html;
use stele_core::consent::Purpose;
use stele_fhir::category::Category;
use stele_service::{
    emergency::Reason,
    notices::NoticeKind,
    people::{Deed, ROLES, ledger_words},
    prescriptions::Verdict,
};

use super::{catalogue::files, *};
use scan::{Found, scan, scripts, sentences, sources};

/// Words that other crates give and that pages show through [`of`] or [`told`].
fn foreign() -> BTreeSet<String> {
    let categories = Category::ALL.iter().map(|one| one.plain_name());
    let mut words: BTreeSet<String> = categories
        .chain(Purpose::ALL.iter().map(|one| one.words()))
        .chain(NoticeKind::ALL.iter().map(|one| one.words()))
        .chain(Reason::ALL.iter().map(|one| one.words()))
        .chain(Deed::ALL.iter().map(|one| one.words()))
        .chain(Verdict::ALL.iter().map(|one| one.words()))
        .chain(stele_service::notices::SENTENCES)
        .chain(ledger_words())
        .chain(ROLES.iter().map(|(.., one)| *one))
        .chain(stele_fhir::words::STATES)
        .map(str::to_owned)
        .collect();
    words.extend(TYPES.iter().map(|one| stele_fhir::words::spaced(one)));
    words
}

/// Types of resources that records have.
const TYPES: [&str; 25] = [
    "AllergyIntolerance",
    "Appointment",
    "Binary",
    "CarePlan",
    "CareTeam",
    "Claim",
    "Condition",
    "Consent",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "ImagingStudy",
    "Immunization",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Procedure",
    "Provenance",
    "ServiceRequest",
    "Specimen",
    "SupplyDelivery",
];

/// Literals that are read but are no message: names, numbers and codes that are the same in every language, commands,
/// and what is data of a record or of a program. Each is in the sources, or the list is too long.
const ALLOWED: &[&str] = &[
    "accept-language, cookie",
    "{}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}",
    "; Secure",
    "public, max-age=31536000, immutable",
    "text/javascript; charset=utf-8",
    "text/css; charset=utf-8",
    "text/html; charset=utf-8",
    "text/csv; charset=utf-8",
    "text/plain; charset=utf-8",
    "– Stele",
    "Stele",
    "UTC",
    "REC",
    "HL7 v2",
    "physical object",
    "qualifier value",
    "observable entity",
    "morphologic abnormality",
    "assessment scale",
    "Cel",
    "stele verify export FILE --genesis genesis.json",
    "stele verify audit FILE --genesis genesis.json",
    "stele verify vault",
    "stele verify chain",
    "stele backup",
    "stele keys rotate",
    "stele verify proof",
    "--genesis genesis.json",
    "attachment; filename=\"{name}\"",
    "attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}",
    "Observation",
    "Condition",
    "Procedure",
    "Immunization",
    "Encounter",
    "Binary",
    "Patient",
    "Entered in error",
    "Blood pressure",
    "Body Weight",
    "/invitation",
    "/register",
    "keeping a file",
    "recording what a patient sealed",
];

/// Whether a literal is the value of a header that browsers heed.
fn is_header(text: &str) -> bool {
    text.starts_with("default-src ") || text.starts_with("publickey-credentials-get=")
}

fn found() -> Found {
    let mut found = Found::default();
    for path in sources() {
        let source = std::fs::read_to_string(&path).expect("a source");
        scan(&short(&path), &source, &mut found);
    }
    found
}

fn short(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root)
        .expect("inside")
        .display()
        .to_string()
}

/// NFR-UX5: what people read comes from the catalogue.
#[test]
fn no_text_is_left_in_the_views() {
    let found = found();
    let left: Vec<String> = found
        .literals
        .iter()
        .filter(|(_, text)| !ALLOWED.contains(&text.trim()) && !is_header(text))
        .map(|(at, text)| format!("{at}: {text:?}"))
        .collect();
    assert!(left.is_empty(), "not for translation:\n{}", left.join("\n"));
    let unused: Vec<&&str> = ALLOWED
        .iter()
        .filter(|allowed| {
            found
                .literals
                .iter()
                .all(|(_, text)| text.trim() != **allowed)
        })
        .collect();
    assert!(unused.is_empty(), "allowed for nothing: {unused:?}");
}

/// The forms of a message: one, or one for each plural.
struct Entry {
    plural: Option<String>,
    forms: Vec<String>,
}

/// Every entry of some files. A message that stands twice fails.
fn entries(files: &[&str]) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::new();
    for file in files {
        let read = polib::po_file::parse_from_reader(file.as_bytes()).expect("a catalogue");
        for message in read.messages() {
            assert!(!message.is_fuzzy(), "{:?} is fuzzy", message.msgid());
            let forms = match message.msgstr_plural() {
                Ok(forms) => forms.clone(),
                Err(_) => vec![message.msgstr().expect("one form").to_owned()],
            };
            let entry = Entry {
                plural: message.msgid_plural().ok().map(str::to_owned),
                forms,
            };
            let before = all.insert(message.msgid().to_owned(), entry);
            assert!(before.is_none(), "{:?} stands twice", message.msgid());
        }
    }
    all
}

fn arguments(text: &str) -> BTreeSet<String> {
    parts(text)
        .filter_map(|part| match part {
            Part::Argument(name) => Some(name.to_owned()),
            Part::Words(_) => None,
        })
        .collect()
}

fn translated() -> impl Iterator<Item = Language> {
    let all = Language::ALL.into_iter();
    all.filter(|language| *language != Language::default())
}

/// NFR-UX5: every language has every message, in every form and with the same arguments, and nothing else.
#[test]
fn every_language_has_every_message() {
    let found = found();
    let foreign = foreign();
    let mut told = sentences();
    told.retain(|(_, sentence)| !SIGNED.contains(&sentence.as_str()));
    let named = scan::by_english(&found.messages);
    for language in translated() {
        let entries = entries(files(language).0);
        let mut wrong = Vec::new();
        for message in &found.messages {
            let Some(entry) = entries.get(&message.english) else {
                wrong.push(format!("{}: lacks {:?}", message.at, message.english));
                continue;
            };
            if entry.plural != message.plural {
                wrong.push(format!(
                    "{}: {:?} has another plural",
                    message.at, message.english
                ));
            }
            let named = arguments(message.plural.as_ref().unwrap_or(&message.english));
            if message
                .arguments
                .as_ref()
                .is_some_and(|given| *given != named)
            {
                wrong.push(format!("{}: other arguments than {named:?}", message.at));
            }
        }
        for word in &foreign {
            if !entries.contains_key(word) {
                wrong.push(format!("lacks {word:?} of another crate"));
            }
        }
        let known: BTreeSet<String> = entries.keys().map(|one| shape(one)).collect();
        for (at, sentence) in &told {
            if !known.contains(&shape(sentence)) {
                wrong.push(format!("{at} of the use cases: lacks {sentence:?}"));
            }
        }
        let told: BTreeSet<String> = told.iter().map(|(_, one)| shape(one)).collect();
        for (english, entry) in &entries {
            let is_named = named.contains_key(english.as_str()) || foreign.contains(english);
            if !is_named && !told.contains(&shape(english)) {
                wrong.push(format!("{english:?} is used nowhere"));
            }
            wrong.extend(of_other_shape(english, entry));
        }
        assert!(
            wrong.is_empty(),
            "{}:\n{}",
            language.code(),
            wrong.join("\n")
        );
    }
}

/// What wallets sign: the text is the same in every language.
const SIGNED: [&str; 2] = [
    "Sign in to your health record.",
    "Let this wallet sign in to my health record and decide for my account on the ledger.",
];

/// A sentence without the names of what is put in.
fn shape(sentence: &str) -> String {
    parts(sentence)
        .map(|part| match part {
            Part::Argument(_) => "{}",
            Part::Words(words) => words,
        })
        .collect()
}

/// What is wrong with the forms of an entry.
fn of_other_shape(english: &str, entry: &Entry) -> Vec<String> {
    let mut wrong = Vec::new();
    let expected = if entry.plural.is_some() { 2 } else { 1 };
    if entry.forms.len() != expected {
        wrong.push(format!("{english:?} has {} forms", entry.forms.len()));
    }
    let whole = arguments(entry.plural.as_deref().unwrap_or(english));
    for (place, form) in entry.forms.iter().enumerate() {
        let is_single = expected == 2 && place == 0;
        let given = arguments(form);
        let fits = if is_single {
            given.is_subset(&whole)
        } else {
            given == whole
        };
        if form.is_empty() || !fits {
            wrong.push(format!("{english:?}: {form:?} has other arguments"));
        }
    }
    wrong
}

/// NFR-UX5: scripts say nothing that is not in the catalogue of the browser, which holds nothing else.
#[test]
fn scripts_speak_every_language() {
    let mut found = Found::default();
    let mut left = Vec::new();
    for path in scripts() {
        let source = std::fs::read_to_string(&path).expect("a script");
        let name = short(&path);
        scan::scan_script(&name, &source, &mut found);
        left.extend(scan::words_of_script(&name, &source));
    }
    assert!(left.is_empty(), "not for translation: {left:#?}");
    let named = scan::by_english(&found.messages);
    assert!(!named.is_empty());
    for language in translated() {
        let file = files(language).1.expect("a catalogue for browsers");
        let entries = entries(&[file]);
        let lacks: Vec<&str> = named
            .values()
            .filter(|message| {
                let entry = entries.get(&message.english);
                entry.is_none_or(|entry| entry.plural != message.plural)
            })
            .map(|message| message.at.as_str())
            .collect();
        let unused: Vec<&String> = entries
            .keys()
            .filter(|english| !named.contains_key(english.as_str()))
            .collect();
        assert!(
            lacks.is_empty() && unused.is_empty(),
            "{lacks:#?} {unused:#?}"
        );
        for (english, entry) in &entries {
            assert_eq!(of_other_shape(english, entry), Vec::<String>::new());
        }
    }
}

#[test]
fn words_are_escaped_and_arguments_are_not_escaped_twice() {
    let name = "<b>";
    let made = html! { strong { (name) } };
    let marked = marked_up("{made} & {name}", &[("made", &made), ("name", &name)]);
    assert_eq!(
        marked.into_string(),
        "<strong>&lt;b&gt;</strong> &amp; &lt;b&gt;"
    );
    assert_eq!(filled("{a}{b}} {c", &[("a", &1), ("b", &2)]), "12} {c");
}

/// Messages are of the language that is spoken, and a number picks its form.
#[test]
fn a_message_is_in_the_language_that_is_spoken() {
    assert_eq!(text!("Sign out"), "Sign out");
    spoken(Language::German, || {
        assert_eq!(text!("Sign out"), "Abmelden");
        assert_eq!(plural!(1_usize, "1 entry", "{count} entries"), "1 Eintrag");
        assert_eq!(plural!(0_usize, "1 entry", "{count} entries"), "0 Einträge");
        assert_eq!(of("treatment"), "Behandlung");
        assert_eq!(told("Nobody said this."), "Nobody said this.");
        assert_eq!(
            told("You have 20 drafts. Send or discard some first."),
            "Sie haben 20 Entwürfe. Senden oder verwerfen Sie zuerst einige."
        );
        assert_eq!(plain_number("6,30"), "6.30");
        assert_eq!(plain_number("<0,1"), "<0.1");
        assert_eq!(plain_number("1,2,3"), "1,2,3");
    });
    // In English a comma groups thousands: what it means is not guessed.
    assert_eq!(plain_number("6,300"), "6,300");
    assert_eq!(plural!(2_u64, "1 entry", "{count} entries"), "2 entries");
}

/// The scan itself: it finds what it has to find, and nothing else.
#[test]
fn the_scan_sees_what_people_see() {
    let mut found = Found::default();
    let source = r#"
        const KIND: &str = "kind-of";
        fn view(name: &str) -> Markup {
            tracing::info!("Nobody reads this");
            html! {
                p.small title="Read aloud" data-kind="not read" { "Left here " (text!("A {name}", name)) }
                @if name == "Two words" { (rich!("B {x}", x = html! { b { "inner" } })) }
                input value={ "no " (text!("C")) } aria-label=(format!("Also left"));
            }
        }
        #[cfg(test)]
        mod tests { fn none() { let _ = "Not looked at"; } }
    "#;
    scan("x.rs", source, &mut found);
    let literals: Vec<&str> = found
        .literals
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(
        literals,
        [
            "Read aloud",
            "Left here ",
            "Two words",
            "inner",
            "Also left"
        ]
    );
    let messages: Vec<&str> = found
        .messages
        .iter()
        .map(|one| one.english.as_str())
        .collect();
    assert_eq!(messages, ["A {name}", "B {x}", "C"]);
    let script = "say(text(\"One {a}\", { a }));\n// \"Not This\"\nsay(\"Left here\");";
    scan::scan_script("x.js", script, &mut found);
    assert_eq!(found.messages.last().expect("a message").english, "One {a}");
    let left = scan::words_of_script("x.js", script);
    assert_eq!(left, [("x.js:3".to_owned(), "Left here".to_owned())]);
}

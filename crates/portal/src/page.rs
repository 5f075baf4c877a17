//! What every page has: head, bar, main part, foot; and the small parts that many pages share.

use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use stele_service::directory::role;

use crate::{
    assets,
    install::{DARK, LIGHT},
    session::Signed,
    text::{self, Language},
};

/// Where a page belongs in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Record,
    Sharing,
    History,
    Medicines,
    Account,
    Worklist,
    Ask,
    Dispense,
    Laboratory,
    Members,
    Acts,
    Health,
    Emergencies,
    Ledger,
    Nowhere,
}

/// A page to be rendered.
pub(crate) struct Page<'a> {
    title: &'a str,
    main: Markup,
    before: Option<Markup>,
    place: Place,
    is_narrow: bool,
}

/// A rendered page.
pub(crate) struct Rendered(pub(crate) Markup);

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        Html(self.0.into_string()).into_response()
    }
}

impl<'a> Page<'a> {
    /// A page. The title names no person and nothing clinical: it is seen over shoulders and kept by browsers.
    pub(crate) fn new(title: &'a str, main: Markup) -> Self {
        Self {
            title,
            main,
            before: None,
            place: Place::Nowhere,
            is_narrow: false,
        }
    }

    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// For reading and forms: as wide as a line of text.
    pub(crate) fn narrow(mut self) -> Self {
        self.is_narrow = true;
        self
    }

    /// What stands between bar and main part: the patient's banner.
    pub(crate) fn under(mut self, banner: Markup) -> Self {
        self.before = Some(banner);
        self
    }

    pub(crate) fn render(self, signed: Option<&Signed>) -> Rendered {
        let is_compact = signed.is_some_and(|signed| !signed.is_patient());
        Rendered(html! {
            (DOCTYPE)
            html lang=(text::language().code()) data-texts=[text::browser(text::language()).map(|one| one.address.as_str())] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " – Stele" }
                    meta name="theme-color" content=(LIGHT) media="(prefers-color-scheme: light)";
                    meta name="theme-color" content=(DARK) media="(prefers-color-scheme: dark)";
                    link rel="icon" href=(assets::address("mark.svg"));
                    link rel="apple-touch-icon" href=(assets::address("icon-192.png"));
                    link rel="manifest" href="/manifest.webmanifest";
                    link rel="stylesheet" href=(assets::address("portal.css"));
                    script type="module" src=(assets::address("portal.js")) {}
                }
                body.compact[is_compact] {
                    a.skip href="#main" { (text!("Skip to content")) }
                    (bar(signed, self.place))
                    @if let Some(before) = self.before { (before) }
                    main #main .narrow[self.is_narrow] { (self.main) }
                    p #said .hide role="status" {}
                    (foot(is_compact))
                }
            }
        })
    }
}

fn bar(signed: Option<&Signed>, place: Place) -> Markup {
    html! {
        header.top { div {
            a.brand href="/" { (mark()) " Stele" }
            @if let Some(signed) = signed {
                @if !signed.is_patient() { span.org { (signed.organization) } }
                nav.nav aria-label=(text!("Main")) { ul {
                    @for (at, address, picture, words) in navigation(signed) {
                        li { a href=(address) aria-current=[(at == place).then_some("page")] {
                            @if signed.is_patient() { (icon(picture)) } " " (words)
                        } }
                    }
                } }
                span.me {
                    span.name { (signed.name) }
                    form method="post" action="/sign-out" {
                        (csrf(signed))
                        button.plain { (text!("Sign out")) }
                    }
                }
            }
        } }
    }
}

fn navigation(signed: &Signed) -> Vec<(Place, &'static str, &'static str, &'static str)> {
    if signed.is_patient() {
        let mut list = vec![
            (Place::Record, "/record", "file-text", text!("Record")),
            (Place::Sharing, "/access", "users", text!("Sharing")),
        ];
        if !signed.holds_keys {
            list.push((
                Place::Medicines,
                "/prescriptions",
                "pill",
                text!("Medicines"),
            ));
        }
        list.push((Place::History, "/history", "history", text!("History")));
        list.push((Place::Account, "/account", "user", text!("Account")));
        return list;
    }
    let mut list = Vec::new();
    if signed.person.has(role::PHARMACIST) {
        list.push((Place::Dispense, "/dispense", "", text!("Dispense")));
    }
    if signed.person.has(role::LABORATORY) {
        list.push((Place::Laboratory, "/laboratory", "", text!("Orders")));
    }
    if signed.person.has(CARE) {
        list.push((Place::Worklist, "/worklist", "", text!("Worklist")));
        list.push((Place::Ask, "/ask", "", text!("Ask a patient")));
    }
    if signed.person.has(role::ADMINISTRATOR) {
        list.push((Place::Members, "/members", "", text!("Members")));
    }
    if signed.person.has(role::ADMINISTRATOR | role::AUDITOR) {
        list.push((Place::Emergencies, "/emergencies", "", text!("Emergencies")));
        list.push((Place::Acts, "/members/acts", "", text!("Acts")));
        list.push((Place::Ledger, "/ledger", "", text!("Ledger")));
    }
    if signed.person.has(role::ADMINISTRATOR) {
        list.push((Place::Health, "/health", "", text!("Health")));
    }
    list.push((Place::Account, "/account", "", text!("Account")));
    list
}

/// Roles that look at charts.
pub(crate) const CARE: u32 = role::DOCTOR | role::NURSE | role::LABORATORY | role::PHARMACIST;

fn foot(is_compact: bool) -> Markup {
    html! {
        footer.foot { div {
            @if is_compact {
                span { (text!("Every look at a record is in the patient’s access history")) }
            } @else {
                span { (text!("In an emergency call your local emergency number")) }
            }
            (languages())
        } }
    }
}

/// The other languages, each by its own name, for people who can't read this one.
fn languages() -> Markup {
    let others = Language::ALL
        .into_iter()
        .filter(|one| *one != text::language());
    html! {
        form.languages method="post" action="/language" {
            @for one in others {
                button.plain name="language" value=(one.code()) lang=(one.code()) { (one.name()) }
            }
        }
    }
}

/// The sign of the program.
pub(crate) fn mark() -> Markup {
    html! {
        svg aria-hidden="true" viewBox="0 0 18 24" {
            path fill-rule="evenodd" d="M0 24V9a9 9 0 0 1 18 0v15zM5 9.5v2h8v-2zm0 4.25v2h8v-2zM5 18v2h5v-2z" {}
        }
    }
}

/// A picture of the sprite.
pub(crate) fn icon(name: &str) -> Markup {
    html! {
        svg.icon aria-hidden="true" { use href={ (assets::address("icons.svg")) "#" (name) } {} }
    }
}

/// The hidden field that every form has.
pub(crate) fn csrf(signed: &Signed) -> Markup {
    token(&signed.csrf())
}

/// As [`csrf`], for visitors.
pub(crate) fn token(token: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(token); }
}

/// Where the script says why a device gave nothing.
pub(crate) fn device_problem() -> Markup {
    html! {
        p.error role="alert" data-problem hidden {}
        noscript { p.error { (text!("Passkeys need scripts. Switch them on for this site.")) } }
    }
}

/// What is wrong with a form: on top, focused, linked to the fields.
pub(crate) fn errors(list: &[(&str, String)]) -> Markup {
    html! {
        @if !list.is_empty() {
            div.errors.flow #errors role="alert" tabindex="-1" {
                h2 { (text!("There is a problem")) }
                ul { @for (field, words) in list { li { a href={ "#" (field) } { (words) } } } }
            }
        }
    }
}

/// What is wrong with one field.
pub(crate) fn field_error(list: &[(&str, String)], field: &str) -> Option<Markup> {
    let (_, words) = list.iter().find(|(name, _)| *name == field)?;
    Some(html! { p.error id={ (field) "-e" } { span.hide { (text!("Error:")) " " } (words) } })
}

/// A text field with its hint and what is wrong with it.
pub(crate) fn field(
    name: &str,
    label: &str,
    hint: &str,
    width: &str,
    value: &str,
    max: usize,
    problems: &[(&str, String)],
) -> Markup {
    let error = field_error(problems, name);
    let described = if error.is_some() {
        format!("{name}-h {name}-e")
    } else {
        format!("{name}-h")
    };
    html! {
        div.field.invalid[error.is_some()] {
            label for=(name) { (label) }
            p.hint id={ (name) "-h" } { (hint) }
            @if let Some(error) = &error { (error) }
            input class=(width) id=(name) name=(name) value=(value) maxlength=(max) autocomplete="off"
                aria-invalid=[error.is_some().then_some("true")] aria-describedby=(described);
        }
    }
}

/// State as word, picture and colour.
pub(crate) fn tag(kind: &str, picture: &str, words: &str) -> Markup {
    html! { span class={ "tag " (kind) } { (icon(picture)) " " (words) } }
}

/// The head of a table.
pub(crate) fn head(columns: &[&str]) -> Markup {
    html! {
        thead role="rowgroup" { tr role="row" {
            @for column in columns { th role="columnheader" scope="col" { (column) } }
        } }
    }
}

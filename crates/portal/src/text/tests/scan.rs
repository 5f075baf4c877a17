//! Reads the sources: which messages they name, with which arguments, and which literals are left that people would
//! read. Works on tokens, so it sees what stands in `html!` as well as what does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// What was found in the sources.
#[derive(Default)]
pub(super) struct Found {
    /// Messages: English, its plural, names of arguments, and where.
    pub(super) messages: Vec<Message>,
    /// Literals that people would read: where, and what.
    pub(super) literals: Vec<(String, String)>,
}

/// A message in the sources.
pub(super) struct Message {
    pub(super) english: String,
    pub(super) plural: Option<String>,
    /// None where the arguments are filled in elsewhere.
    pub(super) arguments: Option<BTreeSet<String>>,
    pub(super) at: String,
}

/// Sentences for people in the sources of the use cases: they begin with a capital letter and end with a full
/// stop, as those for programs do not, or ask for something.
pub(super) fn sentences() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../service/src");
    let mut found = Found::default();
    for path in files(&root, "rs") {
        let source = std::fs::read_to_string(&path).expect("a source");
        let name = path.strip_prefix(&root).expect("inside");
        scan(&name.display().to_string(), &source, &mut found);
    }
    let is_told = |(_, text): &(String, String)| {
        let asks = ["Choose ", "Enter ", "Write "]
            .iter()
            .any(|word| text.starts_with(word));
        let begins = text.starts_with(|one: char| one.is_uppercase() || one == '{');
        asks || begins && text.ends_with('.')
    };
    found.literals.into_iter().filter(is_told).collect()
}

/// Rust sources of the portal but for those that are for developers, whose pages are in English.
pub(super) fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    files(&root, "rs")
        .into_iter()
        .filter(|path| {
            let name = path.strip_prefix(&root).expect("inside");
            !name.starts_with("development")
                && name != Path::new("development.rs")
                && !name.starts_with("text")
                && name != Path::new("text.rs")
        })
        .collect()
}

/// Scripts of our own.
pub(super) fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let own = files(&root, "js").into_iter();
    own.filter(|path| !path.starts_with(root.join("vendor")))
        .collect()
}

fn files(at: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.extension().is_some_and(|one| one == end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads a source.
pub(super) fn scan(name: &str, source: &str, found: &mut Found) {
    let tokens: TokenStream = source.parse().expect("Rust");
    Scanner { name, found }.code(tokens);
}

struct Scanner<'a> {
    name: &'a str,
    found: &'a mut Found,
}

/// Macros whose literals nobody reads on a page.
const SILENT: [&str; 11] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "concat",
    "debug",
    "error",
    "include_str",
    "info",
    "matches",
    "trace",
    "warn",
];
/// Attributes of elements that are read aloud or shown.
const SHOWN: [&str; 6] = [
    "aria-label",
    "title",
    "placeholder",
    "alt",
    "label",
    "data-label",
];

impl Scanner<'_> {
    fn at(&self, tree: &TokenTree) -> String {
        format!("{}:{}", self.name, tree.span().start().line)
    }

    /// Rust outside of templates.
    fn code(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(tree) = trees.get(at) {
            at += 1;
            if is_punct(tree, '#') && trees.get(at).is_some_and(|next| is_punct(next, '!')) {
                at += 2;
                continue;
            }
            if is_punct(tree, '#') && trees.get(at).is_some_and(is_bracket) {
                let is_test = trees[at].to_string().replace(' ', "") == "[cfg(test)]";
                at += 1;
                if is_test {
                    // The item goes with its attribute.
                    while let Some(tree) = trees.get(at) {
                        at += 1;
                        if is_punct(tree, ';') || is_brace(tree) {
                            break;
                        }
                    }
                }
                continue;
            }
            if let Some(end) = self.called(&trees, at - 1) {
                at = end;
                continue;
            }
            match tree {
                TokenTree::Group(group) => self.code(group.stream()),
                TokenTree::Literal(_) => {
                    let is_pattern = trees.get(at).is_some_and(|next| is_punct(next, '|'))
                        || (trees.get(at).is_some_and(|next| is_punct(next, '='))
                            && trees.get(at + 1).is_some_and(|next| is_punct(next, '>')));
                    if let Some(text) = literal(tree)
                        && !is_pattern
                        && is_sentence(&text)
                    {
                        self.found.literals.push((self.at(tree), text));
                    }
                }
                _ => {}
            }
        }
    }

    /// A macro that is called here: reads what it has and gives the place after it.
    fn called(&mut self, trees: &[TokenTree], at: usize) -> Option<usize> {
        let TokenTree::Ident(name) = trees.get(at)? else {
            return None;
        };
        let TokenTree::Group(group) = trees.get(at + 2)? else {
            return None;
        };
        if !is_punct(&trees[at + 1], '!') {
            return None;
        }
        match name.to_string().as_str() {
            "html" => self.template(group.stream()),
            "text" | "rich" => self.message(group, false, true),
            "plural" => self.message(group, true, true),
            "message" => self.message(group, false, false),
            // What programs read; a message may stand in it for people whom they show it to.
            "json" => {
                let before = self.found.literals.len();
                self.code(group.stream());
                self.found.literals.truncate(before);
            }
            silent if SILENT.contains(&silent) => {}
            _ => self.code(group.stream()),
        }
        Some(at + 3)
    }

    /// `text!("…", name = value)` and its like.
    fn message(&mut self, group: &Group, is_plural: bool, has_arguments: bool) {
        let trees: Vec<TokenTree> = group.stream().into_iter().collect();
        let parts: Vec<&[TokenTree]> = trees.split(|tree| is_punct(tree, ',')).collect();
        let own = if is_plural { 3 } else { 1 };
        let words = |at: usize| {
            let part: &[TokenTree] = parts.get(at).copied().unwrap_or_default();
            part.first().and_then(literal).expect("words")
        };
        let (english, plural) = if is_plural {
            (words(1), Some(words(2)))
        } else {
            (words(0), None)
        };
        let mut arguments: BTreeSet<String> =
            is_plural.then(|| "count".to_owned()).into_iter().collect();
        for part in parts.iter().skip(own) {
            if let [TokenTree::Ident(name), rest @ ..] = part
                && (rest.is_empty() || is_punct(&rest[0], '='))
            {
                arguments.insert(name.to_string());
            }
            self.code(part.iter().cloned().collect());
        }
        if is_plural {
            self.code(parts[0].iter().cloned().collect());
        }
        self.found.messages.push(Message {
            english,
            plural,
            arguments: has_arguments.then_some(arguments),
            at: format!("{}:{}", self.name, group.span_open().start().line),
        });
    }

    /// A template: what stands in it as a literal is shown, but for attributes that are not.
    fn template(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(tree) = trees.get(at) {
            at += 1;
            match tree {
                TokenTree::Punct(punct) if punct.as_char() == '=' => {
                    let Some(value) = trees.get(at) else { continue };
                    // `=>` of a `@match` and `==` of a condition are no attributes.
                    if matches!(value, TokenTree::Punct(_)) {
                        at += 1;
                        continue;
                    }
                    if is_shown(&trees, at - 1) {
                        self.shown(value);
                    } else {
                        self.hidden(value);
                    }
                    at += 1;
                }
                TokenTree::Punct(punct) if punct.as_char() == '@' => {
                    at = self.control(&trees, at);
                }
                TokenTree::Literal(_) => self.shown(tree),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    self.template(group.stream());
                }
                TokenTree::Group(group) => self.code(group.stream()),
                _ => {}
            }
        }
    }

    /// `@if condition`, `@for`, `@match`, `@let`: Rust up to the block, or to the end of the statement.
    fn control(&mut self, trees: &[TokenTree], from: usize) -> usize {
        let is_let = matches!(&trees[from], TokenTree::Ident(name) if name == "let");
        let mut at = from;
        while let Some(tree) = trees.get(at) {
            if is_let && is_punct(tree, ';') || !is_let && is_brace(tree) {
                break;
            }
            at += 1;
        }
        self.code(trees[from..at].iter().cloned().collect());
        at
    }

    /// Literals that are shown.
    fn shown(&mut self, tree: &TokenTree) {
        match tree {
            TokenTree::Literal(_) => {
                if let Some(text) = literal(tree)
                    && text.chars().any(char::is_alphabetic)
                {
                    self.found.literals.push((self.at(tree), text));
                }
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                self.template(group.stream());
            }
            TokenTree::Group(group) => self.code(group.stream()),
            _ => {}
        }
    }

    /// A value that is not shown: its expressions may hold messages.
    fn hidden(&mut self, tree: &TokenTree) {
        let TokenTree::Group(group) = tree else {
            return;
        };
        if group.delimiter() != Delimiter::Brace {
            self.code(group.stream());
            return;
        }
        for inner in group.stream() {
            if let TokenTree::Group(group) = inner {
                self.code(group.stream());
            }
        }
    }
}

/// Whether the attribute before an equals sign is shown.
fn is_shown(trees: &[TokenTree], equals: usize) -> bool {
    let mut name = String::new();
    for tree in trees[..equals].iter().rev() {
        match tree {
            TokenTree::Ident(part) if name.is_empty() || name.starts_with('-') => {
                name.insert_str(0, &part.to_string());
            }
            TokenTree::Punct(punct) if punct.as_char() == '-' && !name.is_empty() => {
                name.insert(0, '-');
            }
            _ => break,
        }
    }
    SHOWN.contains(&name.as_str())
}

/// Whether a literal of Rust reads like something for people: several words, or one with a capital letter.
fn is_sentence(text: &str) -> bool {
    let mut plain = String::new();
    let mut depth = 0_u32;
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            other if depth == 0 => plain.push(other),
            _ => {}
        }
    }
    let words: Vec<&str> = plain
        .split_whitespace()
        // Ids of the parts of a form.
        .filter(|word| !word.ends_with("-h") && !word.ends_with("-e"))
        .filter(|word| word.chars().filter(|one| one.is_alphabetic()).count() > 1)
        .collect();
    match words.as_slice() {
        [] => false,
        [one] => {
            let mut letters = one.chars();
            letters.next().is_some_and(char::is_uppercase)
                && letters.all(|letter| letter.is_lowercase() || ".!?:".contains(letter))
        }
        _ => true,
    }
}

fn literal(tree: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = tree else {
        return None;
    };
    let text = literal.to_string();
    if !text.starts_with('"') {
        return None;
    }
    let literal: syn::LitStr = syn::parse_str(&text).expect("a literal");
    Some(literal.value())
}

fn is_punct(tree: &TokenTree, wanted: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_bracket(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket)
}

fn is_brace(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// Messages that scripts name: `text("…", { name })` and `plural(count, "one", "other")`.
pub(super) fn scan_script(name: &str, source: &str, found: &mut Found) {
    for (at, line) in source.lines().enumerate() {
        let at = format!("{name}:{}", at + 1);
        for call in ["text(\"", "message(\"", "plural("] {
            for (start, _) in line.match_indices(call) {
                let before = line[..start].chars().next_back();
                if before.is_some_and(|one| one.is_alphanumeric() || one == '.') {
                    continue;
                }
                let words: Vec<String> = quoted(&line[start..]).collect();
                match (call, words.as_slice()) {
                    ("plural(", [one, other, ..]) => found.messages.push(Message {
                        english: one.clone(),
                        plural: Some(other.clone()),
                        arguments: None,
                        at: at.clone(),
                    }),
                    (_, [words, ..]) => found.messages.push(Message {
                        english: words.clone(),
                        plural: None,
                        arguments: None,
                        at: at.clone(),
                    }),
                    _ => {}
                }
            }
        }
    }
}

/// Literals in double quotes, in order.
fn quoted(line: &str) -> impl Iterator<Item = String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned)
}

/// What people would read in a script that is no message: literals and templates of several words, the first with a
/// capital letter.
pub(super) fn words_of_script(name: &str, source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, line) in source.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") || code.starts_with('*') || code.starts_with("/*") {
            continue;
        }
        for quote in ['"', '`'] {
            let parts: Vec<&str> = line.split(quote).collect();
            for (place, text) in parts.iter().enumerate().skip(1).step_by(2) {
                let before = parts[place - 1];
                let is_message = ["text(", "message("]
                    .iter()
                    .any(|call| before.ends_with(call))
                    || before.contains("plural(");
                let is_told = before.ends_with("new Error(");
                let words = text
                    .split_whitespace()
                    .filter(|word| word.len() > 1)
                    .count();
                let begins = text.chars().find(|one| one.is_alphabetic());
                let is_state = ["In remission", "Entered in error"].contains(text);
                // What a record says stays in the language that it was written in.
                let is_recorded = name.ends_with("made.js");
                if !is_message
                    && !is_told
                    && !is_state
                    && !is_recorded
                    && words > 1
                    && begins.is_some_and(char::is_uppercase)
                {
                    found.push((format!("{name}:{}", at + 1), (*text).to_owned()));
                }
            }
        }
    }
    found
}

/// How often a message stands in a set of places, by its English.
pub(super) fn by_english(messages: &[Message]) -> BTreeMap<&str, &Message> {
    messages
        .iter()
        .map(|message| (message.english.as_str(), message))
        .collect()
}

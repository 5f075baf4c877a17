//! Hygiene that no compiler checks: the crates' arrows, the size of the lock file, secrets and paths in the tree.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// Which of our crates a crate may depend on (ARCHITECTURE.md, "Arrows").
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("disk", &[]),
    ("fhir", &[]),
    ("chain", &["core", "disk"]),
    ("consensus", &["core"]),
    ("vault", &["core", "disk"]),
    ("index", &["core", "fhir"]),
    ("service", &["core", "fhir", "vault", "index"]),
    ("gateway", &["core", "fhir", "service"]),
    ("portal", &["core", "fhir", "service"]),
    (
        "stele",
        &[
            "core",
            "fhir",
            "chain",
            "consensus",
            "vault",
            "index",
            "service",
            "gateway",
            "portal",
        ],
    ),
];

/// More locked packages than this and a clean build takes too long on two cores.
const LOCKED_PACKAGES_MAX: usize = 850;

/// Runs every check and reports all findings at once.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    arrows(root, &mut findings)?;
    lock_file(root, &mut findings)?;
    lint_files(root, &mut findings)?;
    tree(root, &mut findings)?;
    threat_model(root, &mut findings)?;
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "tidy found {} problems:\n  {}",
        findings.len(),
        findings.join("\n  ")
    )
}

fn arrows(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for (name, allowed) in ARROWS {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("reading {}", manifest.display()))?;
        let found = internal_dependencies(&text);
        for dependency in &found {
            if !allowed.contains(&dependency.as_str()) {
                findings.push(format!(
                    "crates/{name} may not depend on stele-{dependency}"
                ));
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            findings.push(format!(
                "crates/{name}/Cargo.toml does not take the workspace's lints"
            ));
        }
    }
    Ok(())
}

/// Our crates named in `[dependencies]`; dev-dependencies are free to test what they like.
fn internal_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(rest) = line.strip_prefix("stele-")
        {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            found.insert(name.to_owned());
        }
    }
    found
}

fn lock_file(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    let packages = text.lines().filter(|line| *line == "[[package]]").count();
    if packages > LOCKED_PACKAGES_MAX {
        findings.push(format!(
            "{packages} locked packages, at most {LOCKED_PACKAGES_MAX}"
        ));
    }
    Ok(())
}

/// The nearest `clippy.toml` wins whole, so the chain's stricter one must repeat the root's.
fn lint_files(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let common = fs::read_to_string(root.join("clippy.toml")).context("reading clippy.toml")?;
    let nearer = root.join("crates/chain/clippy.toml");
    if !nearer.exists() {
        return Ok(());
    }
    let chain = fs::read_to_string(nearer).context("reading crates/chain/clippy.toml")?;
    for line in common
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("path =") || line.contains(" = true"))
    {
        if !chain.contains(line) {
            findings.push(format!("crates/chain/clippy.toml lacks {line:?}"));
        }
    }
    Ok(())
}

fn tree(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .context("listing tracked files")?;
    for name in String::from_utf8_lossy(&listed.stdout)
        .split('\0')
        .filter(|name| !name.is_empty())
    {
        let path = root.join(name);
        if name.ends_with("package-lock.json") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
            if text.contains("\"resolved\": \"http") {
                findings.push(format!("{name} names download addresses"));
            }
        }
        if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
            let lines = text.lines().count();
            if lines > 800 {
                findings.push(format!("{name} has {lines} lines, at most 800"));
            }
            if text.contains(concat!("#[", "allow(")) {
                findings.push(format!(
                    "{name} allows a lint: use #[expect(.., reason = ..)]"
                ));
            }
        }
    }
    Ok(())
}

/// Every test that the threat model names must be there: a renamed or removed test would leave a claim without evidence.
fn threat_model(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    const NAME: &str = "docs/threat-model.md";
    let text = fs::read_to_string(root.join(NAME)).with_context(|| format!("reading {NAME}"))?;
    let named = named_tests(&text);
    if named.is_empty() {
        findings.push(format!("{NAME} names no test"));
    }
    for (file, test) in named {
        let found = fs::read_to_string(root.join(&file)).unwrap_or_default();
        let is_there = if file.ends_with(".rs") {
            found.contains(&format!("fn {test}("))
        } else {
            found.contains(&test)
        };
        if !is_there {
            findings.push(format!("{NAME} names {file}::{test}, which is not there"));
        }
    }
    Ok(())
}

/// `file::test` in backticks, by the file's extension.
fn named_tests(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .filter(|(file, _)| file.ends_with(".rs") || file.ends_with(".mjs"))
        .map(|(file, test)| (file.to_owned(), test.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dependencies_count() {
        let manifest = "[dependencies]\nstele-core.workspace = true\nserde.workspace = true\n[dev-dependencies]\nstele-testkit.workspace = true\n";
        assert_eq!(
            internal_dependencies(manifest),
            BTreeSet::from(["core".to_owned()])
        );
    }

    #[test]
    fn tests_are_found_by_their_names() {
        let text = "| x | `Vec::new` | `crates/a/src/b.rs::it_holds`, `e2e/c.test.mjs::a page` |";
        let expected = [
            ("crates/a/src/b.rs", "it_holds"),
            ("e2e/c.test.mjs", "a page"),
        ];
        assert_eq!(
            named_tests(text),
            expected.map(|(file, test)| (file.to_owned(), test.to_owned()))
        );
    }

    #[test]
    fn the_tree_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask is in the workspace");
        if let Err(error) = run(root) {
            panic!("{error}");
        }
    }
}

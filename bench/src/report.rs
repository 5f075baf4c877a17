//! Figures, and how they are shown: a table for people, JSON for machines, Markdown and HTML for readers.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// All that a run found out.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The machine it ran on.
    pub(crate) machine: Machine,
    /// Whether this was the fast mode, whose figures say nothing about speed.
    pub(crate) smoke: bool,
    /// The benchmarks, in order.
    pub(crate) benchmarks: Vec<Benchmark>,
}

/// The machine, and what else it was doing.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gb: f64,
    pub(crate) kernel: String,
    /// Load average over one minute when the run began: anything above 0.5 means that others were at work.
    pub(crate) load_before: f64,
}

/// One benchmark.
#[derive(Serialize)]
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    /// What was done, so that the figures can be read without the source.
    pub(crate) about: String,
    pub(crate) figures: Vec<Figure>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What was promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
    /// The peer's figure in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Peer>,
    /// Rows of the requirements that it belongs to.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) rows: &'static str,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// The same, measured at a peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    /// Stele's figure divided by the peer's.
    pub(crate) ratio: f64,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            value,
            unit,
            target: None,
            peer: None,
            rows: "",
        }
    }

    pub(crate) const fn at_least(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtLeast(bound));
        self
    }

    pub(crate) const fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtMost(bound));
        self
    }

    pub(crate) fn beside(mut self, name: &'static str, value: f64) -> Self {
        let ratio = self.value / value;
        self.peer = Some(Peer { name, value, ratio });
        self
    }

    pub(crate) const fn rows(mut self, rows: &'static str) -> Self {
        self.rows = rows;
        self
    }

    /// Whether the target is met; `None` without one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtLeast(bound) => self.value >= bound,
            Target::AtMost(bound) => self.value <= bound,
        })
    }
}

impl Report {
    /// Targets that were missed; none in the fast mode, which judges none.
    pub(crate) fn misses(&self) -> usize {
        if self.smoke {
            return 0;
        }
        let figures = self.benchmarks.iter().flat_map(|one| &one.figures);
        figures.filter(|one| one.is_met() == Some(false)).count()
    }

    /// The report for people: one table a benchmark.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut out = format!(
            "# Stele, measured\n\n{}, {} cores, {:.0} GB, Linux {}; load average {:.1} before the run.\n",
            machine.processor,
            machine.cores,
            machine.memory_gb,
            machine.kernel,
            machine.load_before
        );
        if self.smoke {
            out.push_str("\nFast mode: a few hundred operations. Targets are not judged.\n");
        }
        for benchmark in &self.benchmarks {
            // Writing to a string can't fail.
            let _ = writeln!(out, "\n## {}\n\n{}\n", benchmark.name, benchmark.about);
            out.push_str("| figure | Stele | target | | peer | ratio | rows |\n");
            out.push_str("|---|---:|---:|---|---:|---:|---|\n");
            for figure in &benchmark.figures {
                let _ = writeln!(out, "| {} |", self.cells(figure).join(" | "));
            }
        }
        out
    }

    /// The same as one page.
    fn html(&self) -> String {
        let mut out = String::from(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Stele, measured</title>\
             <style>body{font:16px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}\
             table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left}\
             td:nth-child(2),td:nth-child(3),td:nth-child(5),td:nth-child(6){text-align:right;white-space:nowrap}\
             </style>",
        );
        let mut in_table = false;
        for line in self
            .markdown()
            .lines()
            .filter(|line| !line.starts_with("|---"))
        {
            let cells = line
                .strip_prefix("| ")
                .and_then(|row| row.strip_suffix(" |"));
            if in_table && cells.is_none() {
                out.push_str("</table>");
            }
            if let Some(cells) = cells {
                let tag = if in_table { "td" } else { "th" };
                if !in_table {
                    out.push_str("<table>");
                }
                out.push_str("<tr>");
                for cell in cells.split(" | ") {
                    let _ = write!(out, "<{tag}>{}</{tag}>", escape(cell));
                }
                out.push_str("</tr>");
            } else if let Some(title) = line.strip_prefix("## ") {
                let _ = write!(out, "<h2>{}</h2>", escape(title));
            } else if let Some(title) = line.strip_prefix("# ") {
                let _ = write!(out, "<h1>{}</h1>", escape(title));
            } else if !line.is_empty() {
                let _ = write!(out, "<p>{}</p>", escape(line));
            }
            in_table = cells.is_some();
        }
        if in_table {
            out.push_str("</table>");
        }
        out
    }

    fn cells(&self, figure: &Figure) -> [String; 7] {
        let target = match figure.target {
            Some(Target::AtLeast(bound)) => format!("≥ {}", number(bound)),
            Some(Target::AtMost(bound)) => format!("≤ {}", number(bound)),
            None => String::new(),
        };
        let verdict = match figure.is_met() {
            Some(_) if self.smoke => "not judged",
            Some(true) => "pass",
            Some(false) => "MISS",
            None => "",
        };
        let (peer, ratio) = figure.peer.as_ref().map_or_else(Default::default, |peer| {
            let shown = format!("{} {}", number(peer.value), peer.name);
            (shown, format!("{:.2}×", peer.ratio))
        });
        [
            figure.what.clone(),
            format!("{} {}", number(figure.value), figure.unit),
            target,
            verdict.into(),
            peer,
            ratio,
            figure.rows.into(),
        ]
    }

    /// Writes `report.json`, `report.md` and `report.html`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let json = serde_json::to_string_pretty(self).context("writing the report")?;
        for (name, text) in [
            ("report.json", json),
            ("report.md", self.markdown()),
            ("report.html", self.html()),
        ] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Machine {
    /// This machine, now.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let kilobytes: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_gb: kilobytes / 1_048_576.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load
                .split_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or_default(),
        }
    }
}

/// Three significant digits, thousands apart.
fn number(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        return out;
    }
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

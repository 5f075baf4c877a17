//! Where an import's content comes from: files, folders, what is inside the binary.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where content comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file on disk.
    File(PathBuf),
    /// A file inside the binary, by name.
    Embedded(&'static str, &'static [u8]),
}

impl Source {
    /// The file's name, for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            Self::Embedded(name, _) => (*name).to_owned(),
        }
    }

    /// The name without its compression, and the text.
    pub(super) fn read(&self) -> Result<(String, String)> {
        let name = self.name();
        let bytes = match self {
            Self::File(path) => {
                fs::read(path).with_context(|| format!("reading {}", path.display()))?
            }
            Self::Embedded(_, bytes) => bytes.to_vec(),
        };
        let mut text = Vec::new();
        let plain = if let Some(plain) = name.strip_suffix(".bz2") {
            bzip2::read::MultiBzDecoder::new(bytes.as_slice())
                .read_to_end(&mut text)
                .context("it is not a bzip2 file")?;
            plain
        } else if let Some(plain) = name.strip_suffix(".gz") {
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .read_to_end(&mut text)
                .context("it is not a gzip file")?;
            plain
        } else {
            text = bytes;
            name.as_str()
        };
        let plain = plain.to_owned();
        Ok((plain, String::from_utf8(text).context("it is not UTF-8")?))
    }

    /// Directories of organisations and practitioners come first: others refer to them.
    pub(super) fn is_directory(&self) -> bool {
        let name = self.name();
        name.starts_with("0-")
            || name.starts_with("hospitalInformation")
            || name.starts_with("practitionerInformation")
    }
}

/// Files of FHIR in the paths, sorted, folders read through.
pub(super) fn collect(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for path in paths {
        collect_from(path, &mut files)?;
    }
    Ok(files)
}

fn collect_from(path: &Path, files: &mut Vec<Source>) -> Result<()> {
    let what = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    if what.is_file() {
        files.push(Source::File(path.to_owned()));
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .with_context(|| format!("listing {}", path.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("listing {}", path.display()))?;
    entries.sort();
    for entry in entries {
        let name = entry.to_string_lossy();
        let plain = name.trim_end_matches(".bz2").trim_end_matches(".gz");
        if entry.is_dir() || plain.ends_with(".json") || plain.ends_with(".ndjson") {
            collect_from(&entry, files)?;
        }
    }
    Ok(())
}

//! Files: a patient adds a photo or a letter of any type, and whoever may see the entry gets it back byte for byte. The
//! content passes through and is never held; with a script its progress is shown.

use std::{io, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use futures::{Stream, stream};
use maud::{Markup, html};
use multer::{Field, Multipart};
use stele_service::{
    Error, Written,
    people::{FileContent, FileInfo, FileWords, NewFile, file_of},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    entry::Seen,
    keys,
    own::{Problems, day_problem, mistake, today, when, writer},
};
use crate::{
    assets,
    error::{Answer, Refusal},
    form::{Fields, require_own_page, require_token},
    front::Portal,
    page::{Page, Place, Rendered, csrf, errors, field, field_error, icon},
    session::Signed,
    shown::Entry,
};

/// Longest name of an entry and longest note, in characters.
const TITLE_MAX: usize = 120;
const NOTE_MAX: usize = 2_000;
/// Most bytes of the fields before the file.
const FIELDS_MAX: usize = 16 * 1024;
/// Pieces on their way from the browser to the vault.
const PIECES: usize = 4;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/record/add/file", get(page).post(add))
        .route("/record/{type}/{id}/file", get(own_file))
}

/// `GET /record/add/file`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    signed.patient()?;
    let given = Fields::parse(format!("when={}", today(portal.service.now())).as_bytes());
    let asked = if signed.holds_keys {
        Asked::Seal(keys::sealing(&portal, &signed)?)
    } else {
        Asked::Add
    };
    Ok(form(&portal, &signed, &asked, &given, &[]))
}

/// What a form about a file is for.
pub(super) enum Asked {
    Add,
    /// As `Add`, for a browser that seals the file itself, with what it needs for that.
    Seal(Markup),
    /// The entry's address and the version that is corrected.
    Correct {
        entry: String,
        version: u32,
    },
}

/// The form: words first, the file last, so that everything is known before the first byte of it comes.
pub(super) fn form(
    portal: &Portal,
    signed: &Signed,
    asked: &Asked,
    given: &Fields,
    problems: Problems<'_>,
) -> Rendered {
    let sealing = match asked {
        Asked::Seal(sealing) => Some(sealing),
        Asked::Add | Asked::Correct { .. } => None,
    };
    let is_sent = sealing.is_none();
    let there = match asked {
        Asked::Add | Asked::Seal(_) => None,
        Asked::Correct { entry, version } => Some((entry.as_str(), *version)),
    };
    let is_correction = there.is_some();
    let (back, action) = match there {
        None => ("/record/add", "/record/add/file".to_owned()),
        Some((entry, _)) => (entry, format!("{entry}/correct")),
    };
    let wrong = field_error(problems, "file");
    let largest = size(portal.upload_max_bytes);
    let main = html! {
        a.back href=(back) { (text!("Back")) }
        (errors(problems))
        form.flow method=[is_sent.then_some("post")] action=[is_sent.then_some(action)] enctype="multipart/form-data" novalidate
            data-upload[is_sent] data-max=(portal.upload_max_bytes) data-largest=(largest)
            data-seal=[sealing.map(|_| "file")] data-title=[sealing.map(|_| text!("Say what it is"))] {
            @if is_sent { (csrf(signed)) }
            @if let Some((_, version)) = there {
                input type="hidden" name="version" value=(version);
                h1 { (text!("Correct this entry")) }
                p { (text!("The entry as it was stays in your record as an earlier version.")) }
            } @else {
                h1 { (text!("Add a file")) }
                p { (text!("A photo, a letter, a scan: any kind of file. It will be marked “Added by you”. People who can see letters and notes in your record will see it too.")) }
            }
            (field("title", text!("What is it?"), text!("For example “Letter from the eye clinic”"), "w-l", given.text("title"), TITLE_MAX, problems))
            (when(given, &today(portal.service.now()), problems))
            div.field {
                label for="note" { (text!("Note, if you want")) }
                textarea #note name="note" maxlength=(NOTE_MAX) { (given.text("note")) }
            }
            div.field.invalid[wrong.is_some()] {
                label for="file" { @if is_correction { (text!("Another file, if the file was wrong")) } @else { (text!("File")) } }
                p.hint #file-h { (rich!("At most {largest}.", largest)) }
                @if let Some(wrong) = &wrong { (wrong) }
                input #file type="file" name="file" data-max=(portal.upload_max_bytes) data-problem=(text!("Choose a file"))
                    data-large=(text!("Choose a file of at most {largest}; this one is larger", largest)) aria-describedby=(if wrong.is_some() { "file-h file-e" } else { "file-h" })
                    aria-invalid=[wrong.is_some().then_some("true")];
                p.error #file-script role="alert" hidden {}
            }
            div.actions {
                @if is_correction { button.btn.primary { (icon("check")) " " (text!("Save")) } }
                @else { button.btn.primary disabled[!is_sent] { (icon("plus")) " " (text!("Add to your record")) } }
                a.btn href="/record" { (text!("Cancel")) }
            }
            @if let Some(sealing) = sealing { (sealing) }
            div.notice.flow data-sending hidden {
                p #sending-words role="status" { (text!("Sending")) }
                progress max="100" value="0" aria-labelledby="sending-words" {}
                @if is_sent { button.btn.stop type="button" data-stop { (text!("Stop sending")) } }
            }
            @if !is_correction { p.small.soft { (text!("The entry stays in your record for good.")) } }
        }
        @if let Some((entry, version)) = there { (mistake(signed, entry, version)) }
        @if is_sent { script type="module" src=(assets::address("upload.js")) {} }
    };
    Page::new(title(problems, is_correction), main)
        .at(Place::Record)
        .narrow()
        .render(Some(signed))
}

fn title(problems: Problems<'_>, is_correction: bool) -> &'static str {
    match (problems.is_empty(), is_correction) {
        (true, false) => text!("Add a file"),
        (true, true) => text!("Correct an entry"),
        (false, false) => text!("Error: Add a file"),
        (false, true) => text!("Error: Correct an entry"),
    }
}

/// `POST /record/add/file`
async fn add(State(portal): State<Arc<Portal>>, signed: Signed, request: Request) -> Answer {
    let patient = writer(&signed)?;
    let sent = Sent::read(&portal, &signed, request).await?;
    let mut problems = sent.problems(&today(portal.service.now()));
    if sent.file.is_none() {
        problems.push(("file", text!("Choose a file").into()));
    }
    let file = match sent.file {
        Some(file) if problems.is_empty() => file,
        file => {
            drained(file, portal.upload_max_bytes).await;
            let page = form(&portal, &signed, &Asked::Add, &sent.fields, &problems);
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
        }
    };
    let (service, actor) = (Arc::clone(&portal.service), signed.actor.clone());
    let said = said(&sent.fields);
    let carried = file.carry(portal.upload_max_bytes, |new| {
        tokio::spawn(async move { service.add_file(&actor, patient, &said, new).await })
    });
    answered(&portal, &signed, &Asked::Add, &sent.fields, carried.await)
}

/// Where a written entry is, or the form again where the file was too large.
pub(super) fn answered(
    portal: &Portal,
    signed: &Signed,
    asked: &Asked,
    fields: &Fields,
    done: Result<Written, Error>,
) -> Answer {
    if matches!(done, Err(Error::TooLarge { .. })) {
        let largest = size(portal.upload_max_bytes);
        let words = text!(
            "Choose a file of at most {largest}; this one is larger",
            largest
        );
        let page = form(portal, signed, asked, fields, &[("file", words)]);
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, page).into_response());
    }
    let address = format!("/record/DocumentReference/{}", done?.id);
    Ok(Redirect::to(&address).into_response())
}

/// What the fields say of the file.
pub(super) fn said(fields: &Fields) -> FileWords {
    FileWords {
        title: fields.text("title").to_owned(),
        day: fields.text("when").to_owned(),
        note: fields.text("note").to_owned(),
    }
}

/// A form with a file as it came in, up to the file, which is still to be read.
pub(super) struct Sent {
    pub(super) fields: Fields,
    pub(super) file: Option<Part>,
}

/// A file on its way in.
pub(super) struct Part {
    name: String,
    content_type: String,
    field: Field<'static>,
    /// Keeps the parts behind the file readable.
    _form: Multipart<'static>,
}

impl Sent {
    /// Reads the fields before the file. A form of another site's page, or without the session's token, goes no further.
    pub(super) async fn read(portal: &Portal, signed: &Signed, request: Request) -> Answer<Self> {
        let headers = request.headers();
        require_own_page(headers, portal.site.origin())?;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // Up to twice the limit is read to the end, so that the browser hears the answer; more is not worth reading.
        let most = portal.upload_max_bytes.saturating_mul(2);
        let announced: Option<u64> = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if announced.is_some_and(|length| length > most) {
            return Err(Refusal::Page {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                title: text!("This file is too large"),
                words: text!(
                    "A file may have at most {size}. Nothing was kept.",
                    size = size(portal.upload_max_bytes)
                ),
            });
        }
        let boundary = text(CONTENT_TYPE)
            .and_then(|kind| multer::parse_boundary(kind).ok())
            .ok_or_else(|| Refusal::bad_form(text!("It was not sent as a form with a file.")))?;
        let mut form = Multipart::new(request.into_body().into_data_stream(), boundary);
        let mut fields = Vec::new();
        let mut left = FIELDS_MAX;
        let mut file = None;
        while let Some(mut part) = form.next_field().await.map_err(|_| broken())? {
            let name = part.name().unwrap_or_default().to_owned();
            if name == "file" {
                file = Some(part);
                break;
            }
            let mut text = Vec::new();
            while let Some(piece) = part.chunk().await.map_err(|_| broken())? {
                left = left
                    .checked_sub(piece.len())
                    .ok_or_else(|| Refusal::bad_form(text!("Its fields are too long.")))?;
                text.extend_from_slice(&piece);
            }
            fields.push((name, String::from_utf8_lossy(&text).into_owned()));
        }
        let fields = Fields::of(fields);
        require_token(&signed.session, fields.text("csrf"))?;
        Ok(Self {
            fields,
            file: file.and_then(|field| Part::of(field, form)),
        })
    }

    /// What is wrong with the words.
    pub(super) fn problems(&self, today: &str) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let title = self.fields.text("title");
        if title.is_empty() {
            problems.push(("title", text!("Say what it is").into()));
        } else if title.chars().count() > TITLE_MAX {
            problems.push((
                "title",
                text!("Write at most {most} characters", most = TITLE_MAX),
            ));
        }
        problems.extend(day_problem(self.fields.text("when"), today));
        if self.fields.text("note").chars().count() > NOTE_MAX {
            problems.push((
                "note",
                text!("Write at most {most} characters", most = NOTE_MAX),
            ));
        }
        problems
    }
}

fn broken() -> Refusal {
    Refusal::bad_form(text!("It did not arrive whole. Nothing was kept."))
}

impl Part {
    /// The file of a form; a browser sends an empty part where none was chosen.
    fn of(field: Field<'static>, form: Multipart<'static>) -> Option<Self> {
        let name = field.file_name().filter(|name| !name.is_empty())?;
        let kind = field.content_type().map(ToString::to_string);
        Some(Self {
            name: last_part(name),
            content_type: kind.unwrap_or_else(|| OCTETS.to_owned()),
            field,
            _form: form,
        })
    }

    /// The file, held: its name and content. A file that is larger comes back to be read to its end; nothing comes
    /// back of one that broke off.
    pub(super) async fn held(
        mut self,
        max_bytes: usize,
    ) -> Result<(String, Vec<u8>), Option<Self>> {
        let mut content = Vec::new();
        while let Some(piece) = self.field.chunk().await.map_err(|_| None)? {
            if content.len().saturating_add(piece.len()) > max_bytes {
                return Err(Some(self));
            }
            content.extend_from_slice(&piece);
        }
        Ok((self.name, content))
    }

    /// Carries the file to a task that keeps it. The task goes on to its end whatever becomes of the request; a request
    /// given up is an error in the content, so that nothing is kept of it.
    pub(super) async fn carry(
        mut self,
        max_bytes: u64,
        keep: impl FnOnce(NewFile<Pieces>) -> JoinHandle<Result<Written, Error>>,
    ) -> Result<Written, Error> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let kept = keep(NewFile {
            name: self.name,
            content_type: self.content_type,
            max_bytes,
            content: Box::pin(pieces(receiver)),
        });
        let mut is_wanted = true;
        let mut unread = max_bytes;
        loop {
            match self.field.chunk().await {
                Ok(Some(piece)) if is_wanted => {
                    is_wanted = sender.send(Piece::Bytes(piece)).await.is_ok();
                }
                // Refused: the rest is read, within bounds, so that the browser hears why.
                Ok(Some(piece)) => {
                    unread = unread.saturating_sub(piece.len() as u64);
                    if unread == 0 {
                        break;
                    }
                }
                Ok(None) => {
                    // Without a receiver the answer says why.
                    let _ = sender.send(Piece::End).await;
                    break;
                }
                Err(error) => {
                    let _ = sender
                        .send(Piece::Broken(io::Error::other(error.to_string())))
                        .await;
                    break;
                }
            }
        }
        drop(sender);
        kept.await.map_err(|error| Error::Internal {
            what: "keeping a file",
            problem: error.to_string(),
        })?
    }
}

/// Reads a file that is not wanted, within bounds: a browser hears the answer once it has sent everything.
pub(super) async fn drained(file: Option<Part>, max_bytes: u64) {
    let Some(mut file) = file else { return };
    let mut unread = max_bytes;
    while let Ok(Some(piece)) = file.field.chunk().await {
        unread = unread.saturating_sub(piece.len() as u64);
        if unread == 0 {
            return;
        }
    }
}

/// The content of a file as it comes.
pub(super) type Pieces = std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

enum Piece {
    Bytes(Bytes),
    Broken(io::Error),
    End,
}

/// Ends well only where the whole file came.
fn pieces(receiver: mpsc::Receiver<Piece>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::Broken(error)) => Some((Err(error), None)),
            Some(Piece::End) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
}

/// The file of an entry on its page: what it is and how to get it, and a picture where it is one.
pub(super) fn part(entry: &Entry, seen: &Seen<'_>) -> Markup {
    let Some(file) = file_of(&entry.value) else {
        return html! {};
    };
    let address = format!("{}/file", entry.address(seen.address));
    let is_small = file.size_bytes.is_some_and(|size| size <= PICTURE_MAX);
    html! {
        div.flow {
            @if PICTURES.contains(&file.content_type.as_str()) && is_small {
                img.picture src=(address) alt=(text!("Picture: {title}", title = entry.title)) loading="lazy";
            }
            p {
                a.btn href=(address) download=(file.name) { (icon("download")) " " (text!("Download")) }
            }
            p.small.soft {
                (file.name)
                @if let Some(bytes) = file.size_bytes { ", " (size(bytes)) }
            }
        }
    }
}

/// `GET /record/{type}/{id}/file`
async fn own_file(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer {
    signed.patient()?;
    keys::require_managed(&signed, text!("Its page puts the file together there."))?;
    download(&portal, &signed, &resource_type, &id).await
}

/// The file of an entry that the person may see, as an attachment.
pub(super) async fn download(
    portal: &Portal,
    signed: &Signed,
    resource_type: &str,
    id: &str,
) -> Answer {
    if !matches!(resource_type, "DocumentReference" | "DiagnosticReport") {
        return Err(Refusal::not_found());
    }
    let (info, content) = portal
        .service
        .open_file(&signed.actor, resource_type, id)
        .await?;
    Ok(attached(&info, content))
}

/// Whoever wrote the file also named it and its type: it is saved, never opened in place, and only pictures and PDF keep
/// their type.
fn attached(info: &FileInfo, content: FileContent) -> Response {
    let kind = info.content_type.as_str();
    let is_harmless = PICTURES.contains(&kind) || kind == "application/pdf";
    let kind = if is_harmless { kind } else { OCTETS };
    let mut response = Response::new(Body::from_stream(content));
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static(OCTETS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap_or(octets));
    if let Some(size_bytes) = info.size_bytes {
        headers.insert(CONTENT_LENGTH, size_bytes.into());
    }
    let disposition = HeaderValue::from_str(&disposition(&info.name));
    headers.insert(
        CONTENT_DISPOSITION,
        disposition.unwrap_or(HeaderValue::from_static("attachment")),
    );
    response
}

/// RFC 6266: a plain name for old programs, and the whole one in UTF-8.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| match c {
            '"' | '\\' | '/' | '%' => '_',
            c if c == ' ' || c.is_ascii_graphic() => c,
            _ => '_',
        })
        .collect();
    // RFC 5987 allows letters, digits and a few marks; the serialiser's "+" is a blank.
    let whole: String = form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
        .replace('*', "%2A");
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}")
}

/// The name without folders, which some browsers send, and without what is no letter.
fn last_part(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().filter(|c| !c.is_control()).take(200).collect();
    if shown.is_empty() {
        "file".into()
    } else {
        shown
    }
}

/// `200 MB`, `1.5 MB`, `12 kB`, as devices count: in powers of 1024.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["kB", "MB", "GB"];
    if bytes < 1024 {
        return text!("{bytes} bytes", bytes);
    }
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit < UNITS.len() - 1 {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"GB");
    if tenths.is_multiple_of(10) || tenths >= 100 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

const OCTETS: &str = "application/octet-stream";
/// Types that a page shows as pictures: no script runs in them.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/webp", "image/gif"];
/// Largest picture that a page shows by itself, in bytes.
const PICTURE_MAX: u64 = 20 << 20;

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[test]
    fn sizes_are_read_as_devices_show_them() {
        for (bytes, shown) in [
            (12, "12 bytes"),
            (2048, "2 kB"),
            (1_572_864, "1.5 MB"),
            (209_715_200, "200 MB"),
            (24_000_000, "22 MB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn names_are_saved_as_they_are_and_run_nothing() {
        assert_eq!(last_part("C:\\photos\\Über.jpg"), "Über.jpg");
        assert_eq!(last_part("../../etc/passwd"), "passwd");
        assert_eq!(
            disposition("Über \"x\".jpg"),
            "attachment; filename=\"_ber _x_.jpg\"; filename*=UTF-8''%C3%9Cber%20%22x%22.jpg"
        );
        let answer = |kind: &str| {
            let info = FileInfo {
                name: "x".into(),
                content_type: kind.into(),
                size_bytes: Some(0),
            };
            attached(&info, stream::empty().boxed())
        };
        for kind in ["text/html", "image/svg+xml", "text/javascript"] {
            assert_eq!(answer(kind).headers()[CONTENT_TYPE], OCTETS, "{kind}");
        }
        let picture = answer("image/png");
        assert_eq!(picture.headers()[CONTENT_TYPE], "image/png");
        let saved = picture.headers()[CONTENT_DISPOSITION].to_str();
        assert!(saved.expect("text").starts_with("attachment;"));
    }

    #[tokio::test]
    async fn a_file_that_stops_coming_is_an_error() {
        let read = async |last: Option<Piece>| {
            let (sender, receiver) = mpsc::channel(4);
            let first = Piece::Bytes(Bytes::from_static(b"a"));
            assert!(sender.send(first).await.is_ok());
            if let Some(last) = last {
                assert!(sender.send(last).await.is_ok());
            }
            drop(sender);
            pieces(receiver).collect::<Vec<_>>().await
        };
        assert_eq!(read(Some(Piece::End)).await.len(), 1);
        let given_up = read(None).await;
        assert!(given_up.len() == 2 && given_up[1].is_err());
    }
}

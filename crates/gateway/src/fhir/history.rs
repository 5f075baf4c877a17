//! Histories of one resource and of a type.

use axum::http::StatusCode;
use stele_fhir::outcome::IssueCode;

use super::{
    asked::Asked,
    page::{self, CURSOR},
};
use crate::{
    problem::{Answer, Problem},
    smart::Interaction,
};

/// `GET {type}/{id}/_history`
pub(super) async fn of_instance(asked: Asked) -> Answer {
    asked.require(&[Interaction::Read])?;
    list(&asked).await
}

/// `GET {type}/_history`
pub(super) async fn of_type(asked: Asked) -> Answer {
    asked.require(&[Interaction::Search])?;
    list(&asked).await
}

async fn list(asked: &Asked) -> Answer {
    let front = &asked.front;
    let pairs = asked.pairs();
    let view = asked.view()?;
    let Paging { count, cursor } = Paging::read(&pairs)?;
    let count = count
        .unwrap_or(front.config.default_count)
        .clamp(1, front.config.max_count);
    let id = (!asked.id.is_empty()).then_some(asked.id.as_str());
    let actor = &asked.principal.actor;
    let page = front
        .service
        .history(actor, &asked.resource_type, id, count, cursor)
        .await?;
    let url = format!("{}/_history", asked.url());
    let links = page::links(&url, &pairs, page.next.as_deref());
    let fhir_url = front.config.fhir_url();
    let text = page::history(&fhir_url, &page, &view, front.service.now(), &links);
    Ok(page::shown(StatusCode::OK, text, &view))
}

/// Parameters of lists that take nothing but paging and the general ones.
#[derive(Debug)]
pub(super) struct Paging<'p> {
    pub(super) count: Option<u32>,
    pub(super) cursor: Option<&'p str>,
}

impl<'p> Paging<'p> {
    /// # Errors
    /// 400 for other parameters: left out they would widen the answer without a word.
    pub(super) fn read(pairs: &'p [(String, String)]) -> Result<Self, Problem> {
        let mut paging = Self {
            count: None,
            cursor: None,
        };
        for (name, value) in pairs {
            match name.as_str() {
                "_count" => {
                    let count = value.parse().map_err(|_| {
                        Problem::bad_request(IssueCode::Value, "_count is not a number")
                    })?;
                    paging.count = Some(count);
                }
                CURSOR => paging.cursor = Some(value),
                "_format" | "_pretty" | "_summary" | "_elements" => {}
                _ => {
                    return Err(Problem::bad_request(
                        IssueCode::NotSupported,
                        "only _count, _cursor, _summary, _elements, _format and _pretty are taken here",
                    ));
                }
            }
        }
        Ok(paging)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_ignored_is_refused() {
        let pairs = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let taken = pairs("_count", "5");
        assert_eq!(Paging::read(&taken).expect("taken").count, Some(5));
        for (name, value) in [("_since", "2024"), ("_count", "x")] {
            assert_eq!(
                Paging::read(&pairs(name, value)).expect_err(name).status,
                400
            );
        }
    }
}

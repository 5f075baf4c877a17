//! Conditions: which resource a search in place of an id means.

use std::sync::Arc;

use super::asked::Asked;
use crate::{body, problem::Problem, smart::Interaction};

/// The one resource that a condition matches, if there is one.
///
/// # Errors
/// 412 for several; the criteria's own mistakes; a token that may not search.
pub(super) async fn find(asked: &Asked, query: &str) -> Result<Option<String>, Problem> {
    asked.require(&[Interaction::Search])?;
    let criteria: Vec<(String, String)> = body::pairs(criteria_of(query).as_bytes())
        .into_iter()
        .filter(|(name, _)| !GENERAL.contains(&name.as_str()))
        .collect();
    let service = Arc::clone(&asked.front.service);
    let (actor, resource_type) = (asked.principal.actor.clone(), asked.resource_type.clone());
    let mut ids = asked
        .front
        .blocking(move || {
            service
                .resolve(&actor, &resource_type, &criteria)
                .map_err(Problem::from)
        })
        .await??;
    if ids.len() > 1 {
        return Err(Problem::several());
    }
    Ok(ids.pop())
}

/// `If-None-Exist` may be written with its address or a question mark in front.
fn criteria_of(query: &str) -> &str {
    query
        .split_once('?')
        .map_or(query, |(_, criteria)| criteria)
}

/// Parameters that say how to answer, not what is meant.
const GENERAL: [&str; 2] = ["_format", "_pretty"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_front_is_left_out() {
        for written in [
            "identifier=a|b",
            "?identifier=a|b",
            "Patient?identifier=a|b",
        ] {
            assert_eq!(criteria_of(written), "identifier=a|b");
        }
    }
}

//! What a search means, in plain code over all resources.

use std::cmp::Ordering;

use stele_core::time::Timestamp;
use stele_fhir::search::{
    ast::{Direction, Filter, IndexKind, IndexValue, ParamType, Query, ReferenceValue, Sort},
    extract, full_text, matches, normalise, words,
};

use super::world::{Resource, World, clinician, patient};
use crate::Viewer;

/// A sort key; absent keys stand last in both directions.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub(crate) enum Key {
    Number(f64),
    Text(String),
}

pub(crate) struct Model<'a> {
    world: &'a World,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    resource: &'a Resource,
    resource_type: &'a str,
    id: &'a str,
    values: Vec<IndexValue>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let entry = |resource: &'a Resource| {
            let resource_type = resource.json["resourceType"].as_str().unwrap();
            Entry {
                resource,
                resource_type,
                id: resource.json["id"].as_str().unwrap(),
                values: extract(resource_type, &resource.json),
            }
        };
        Self {
            world,
            entries: world.resources.iter().map(entry).collect(),
        }
    }

    /// Ids of the matches with their sort keys, in order.
    pub(crate) fn search(
        &self,
        query: &Query,
        viewer: &Viewer,
        now: Timestamp,
    ) -> Vec<(String, Vec<Option<Key>>)> {
        let mut found: Vec<(String, Vec<Option<Key>>)> = self
            .entries
            .iter()
            .filter(|entry| {
                entry.resource_type == query.resource_type && self.sees(viewer, entry, now)
            })
            .filter(|entry| {
                query
                    .filters
                    .iter()
                    .all(|filter| self.meets(entry, filter, viewer, now))
            })
            .map(|entry| {
                (
                    entry.id.to_owned(),
                    query.sort.iter().map(|sort| key(entry, sort)).collect(),
                )
            })
            .collect();
        found.sort_by(|(_, one), (_, other)| order(query, one, other));
        found
    }

    fn sees(&self, viewer: &Viewer, entry: &Entry<'_>, now: Timestamp) -> bool {
        let resource = entry.resource;
        if resource.deleted || resource.tombstoned {
            return false;
        }
        let Some(owner) = resource.patient else {
            return viewer.directory;
        };
        let now = now.seconds();
        viewer.principals.contains(&patient(owner).0)
            || self.world.grants.iter().any(|grant| {
                grant.patient == owner
                    && viewer.principals.contains(&clinician(grant.grantee))
                    && (grant.categories >> resource.slot) & 1 == 1
                    && grant.permissions & 1 == 1
                    && grant.purposes & viewer.purposes == viewer.purposes
                    && grant.not_before <= now
                    && now < grant.expires
                    && (grant.records_from..=grant.records_to).contains(&resource.month)
                    && !grant.revoked
            })
    }

    fn meets(&self, entry: &Entry<'_>, filter: &Filter, viewer: &Viewer, now: Timestamp) -> bool {
        match filter {
            Filter::Values { .. } | Filter::Missing { .. } => {
                matches(filter, &entry.values).unwrap()
            }
            Filter::Chain { param, targets } => targets.iter().any(|target| {
                self.entries.iter().any(|other| {
                    other.resource_type == target.resource_type
                        && points(entry, param.id, other)
                        && self.sees(viewer, other, now)
                        && self.meets(other, &target.filter, viewer, now)
                })
            }),
            Filter::Has {
                source_type,
                reference,
                filter,
            } => self.entries.iter().any(|other| {
                other.resource_type == *source_type
                    && points(other, reference.id, entry)
                    && self.sees(viewer, other, now)
                    && self.meets(other, filter, viewer, now)
            }),
            Filter::FullText { words: asked, .. } => {
                let own = words(&normalise(&full_text(&entry.resource.json).content));
                asked.iter().all(|word| own.contains(word))
            }
        }
    }
}

fn points(from: &Entry<'_>, param: stele_fhir::search::ast::ParamId, to: &Entry<'_>) -> bool {
    from.values.iter().any(|value| {
        value.param == param
            && matches!(&value.kind, IndexKind::Reference(ReferenceValue::Local { target_type, target_id })
                if target_type == to.resource_type && target_id == to.id)
    })
}

fn key(entry: &Entry<'_>, sort: &Sort) -> Option<Key> {
    let keys = entry
        .values
        .iter()
        .filter(|value| value.param == sort.param.id)
        .filter_map(|value| {
            Some(match &value.kind {
                IndexKind::Token { code, .. } if sort.param.param_type == ParamType::Token => {
                    Key::Text(code.clone().unwrap_or_default())
                }
                IndexKind::Reference(ReferenceValue::Local { target_id, .. }) => {
                    Key::Text(target_id.clone())
                }
                IndexKind::Date { start_ms, .. } => Key::Number(*start_ms as f64),
                IndexKind::Quantity { low, .. } => Key::Number(*low),
                IndexKind::String { value, .. } => Key::Text(value.clone()),
                _ => return None,
            })
        });
    let order = |one: &Key, other: &Key| one.partial_cmp(other).unwrap();
    match sort.direction {
        Direction::Ascending => keys.min_by(order),
        Direction::Descending => keys.max_by(order),
    }
}

fn order(query: &Query, one: &[Option<Key>], other: &[Option<Key>]) -> Ordering {
    for (sort, (one, other)) in query.sort.iter().zip(one.iter().zip(other)) {
        let ordering = match (one, other) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => {
                let ascending = one.partial_cmp(other).unwrap();
                if sort.direction == Direction::Ascending {
                    ascending
                } else {
                    ascending.reverse()
                }
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}

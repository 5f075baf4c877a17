//! What the node counts and measures, in OpenMetrics. `docs/METRICS.md` lists every name, and a test holds the two
//! against each other. Labels are bounded words: never a patient, an account, an address or a CID.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    Service,
    error::{Error, Result},
    ports::BlockRef,
};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Class {
    /// One resource or version, or its history.
    Read,
    /// A search or the history of a type.
    Search,
    /// A create, update, patch, delete or Bundle.
    Write,
    /// A FHIR operation: `$everything`, `$proof` and the like.
    Operation,
    /// Tokens.
    Auth,
    /// Patients with their own keys.
    Own,
    /// The operator's desk.
    Admin,
    /// IPFS blocks.
    Ipfs,
    /// Everything else: health, pages, unknown addresses.
    Other,
}

impl Class {
    /// From a method and the template of the address that was matched.
    #[must_use]
    pub fn of(method: &str, route: &str) -> Self {
        let Some(fhir) = route.strip_prefix("/fhir/r4") else {
            return match route.split('/').nth(1) {
                Some("auth") => Self::Auth,
                Some("own") => Self::Own,
                Some("admin") => Self::Admin,
                Some("ipfs") => Self::Ipfs,
                _ => Self::Other,
            };
        };
        let is_read = matches!(method, "GET" | "HEAD");
        match fhir {
            _ if fhir.contains('$') => Self::Operation,
            "/{type}/_search" => Self::Search,
            "/{type}" | "/{type}/_history" if is_read => Self::Search,
            _ if fhir.starts_with("/{type}/{id}") && is_read => Self::Read,
            "/metadata" | "/.well-known/smart-configuration" => Self::Other,
            _ if is_read => Self::Other,
            _ => Self::Write,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    class: Class,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Waits {
    Ready,
    Blocked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waiting {
    state: Waits,
}

/// The node's counters. One set a service.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<OfClass, Histogram, fn() -> Histogram>,
    receipts: Counter,
    refusals: Counter,
    unanchored: Gauge,
    pool: Family<Waiting, Gauge>,
    height: Gauge,
    age: Gauge,
    lag: Gauge,
    blobs: Gauge,
    custodians: Gauge,
    alone: Gauge,
    undealt: Gauge,
    untold: Gauge,
    wrong_shares: Counter,
    snapshot_bytes: Gauge,
    snapshot_blocks: Gauge,
    wrong_snapshots: Counter,
    replicas: Replicas,
}

/// Of copies that members keep of each other's records.
#[derive(Default)]
struct Replicas {
    held: Gauge,
    height: Gauge,
    backlog: Gauge,
    missing: Gauge,
    checked: Counter,
    failed: Counter,
    repaired: Counter,
    asked: Counter,
    not_given: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("stele"),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
            receipts: Counter::default(),
            refusals: Counter::default(),
            unanchored: Gauge::default(),
            pool: Family::default(),
            height: Gauge::default(),
            age: Gauge::default(),
            lag: Gauge::default(),
            blobs: Gauge::default(),
            custodians: Gauge::default(),
            alone: Gauge::default(),
            undealt: Gauge::default(),
            untold: Gauge::default(),
            wrong_shares: Counter::default(),
            snapshot_bytes: Gauge::default(),
            snapshot_blocks: Gauge::default(),
            wrong_snapshots: Counter::default(),
            replicas: Replicas::default(),
        };
        metrics.register();
        metrics.register_custody();
        metrics.register_snapshot();
        metrics.register_replicas();
        metrics
    }
}

/// From half a millisecond to about half a minute.
fn durations() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_requests",
            "HTTP requests answered, by class and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from request to answer, by class",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "audit_receipts",
            "Access receipts written, refused attempts too",
            self.receipts.clone(),
        );
        registry.register(
            "audit_refusals",
            "Attempts that were refused for lack of consent or permission",
            self.refusals.clone(),
        );
        registry.register(
            "audit_unanchored_receipts",
            "Receipts of this node that the ledger does not have yet",
            self.unanchored.clone(),
        );
        registry.register(
            "pool_transactions",
            "Transactions that wait for a block",
            self.pool.clone(),
        );
        registry.register(
            "ledger_height",
            "Height of the last finalized block",
            self.height.clone(),
        );
        registry.register_with_unit(
            "ledger_block_age",
            "Age of the last finalized block",
            Unit::Seconds,
            self.age.clone(),
        );
        registry.register(
            "index_lag_blocks",
            "Blocks that the index has not followed yet",
            self.lag.clone(),
        );
        registry.register(
            "vault_blobs",
            "Ciphertexts in the vault, approximately",
            self.blobs.clone(),
        );
    }

    fn register_custody(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "custody_custodians",
            "Members that share the peppers of what is written now",
            self.custodians.clone(),
        );
        registry.register(
            "custody_kept_alone",
            "Whether this member still has a tree that gives peppers of older records alone",
            self.alone.clone(),
        );
        registry.register(
            "custody_undealt_trees",
            "Trees of pepper shares that a custodian has not confirmed yet",
            self.undealt.clone(),
        );
        registry.register(
            "custody_untold_erasures",
            "Erased records whose shares another custodian has not destroyed yet",
            self.untold.clone(),
        );
        registry.register(
            "custody_wrong_shares",
            "Shares of peppers that other custodians gave and that were none",
            self.wrong_shares.clone(),
        );
    }

    fn register_snapshot(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "snapshot_state",
            "Bytes of the state taken from other members since this one joined",
            Unit::Bytes,
            self.snapshot_bytes.clone(),
        );
        registry.register(
            "snapshot_blocks",
            "Blocks before that state taken from other members",
            self.snapshot_blocks.clone(),
        );
        registry.register(
            "snapshot_refused",
            "Parts of a snapshot that other members gave and that were not proven",
            self.wrong_snapshots.clone(),
        );
    }

    /// How far a snapshot of the ledger is: bytes of the state, and blocks before it.
    pub fn snapshot(&self, bytes: u64, blocks: u64) {
        for (gauge, value) in [
            (&self.snapshot_bytes, bytes),
            (&self.snapshot_blocks, blocks),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// Counts a part of a snapshot that another member gave and that was not proven.
    pub fn wrong_snapshot(&self) {
        self.wrong_snapshots.inc();
    }

    fn register_replicas(&mut self) {
        let (registry, of) = (&mut self.registry, &self.replicas);
        registry.register(
            "replica_held",
            "Record versions of other members that are kept here, approximately",
            of.held.clone(),
        );
        registry.register(
            "replica_height",
            "Height of the block up to which everything that is to be copied here is here",
            of.height.clone(),
        );
        registry.register(
            "replica_backlog",
            "Record versions of other members that are still to be copied here",
            of.backlog.clone(),
        );
        registry.register(
            "replica_missing",
            "Ciphertexts of the last sample that are missing or damaged and that no member gives",
            of.missing.clone(),
        );
        registry.register(
            "replica_checked",
            "Stored ciphertexts that were read and held against their addresses",
            of.checked.clone(),
        );
        registry.register(
            "replica_failed",
            "Those of them that were missing or damaged",
            of.failed.clone(),
        );
        registry.register(
            "replica_repaired",
            "Those of them that were fetched from another member",
            of.repaired.clone(),
        );
        registry.register(
            "replica_asked",
            "Times that another member was asked for a copy that it should hold of this one",
            of.asked.clone(),
        );
        registry.register(
            "replica_not_given",
            "Times that it did not give it",
            of.not_given.clone(),
        );
    }

    /// Height of the block up to which everything is copied here.
    pub(crate) fn replica_height(&self, height: u64) {
        let height = i64::try_from(height).unwrap_or(i64::MAX);
        self.replicas.height.set(height);
    }

    /// Record versions that are still to be copied here.
    pub(crate) fn replica_backlog(&self, versions: u64) {
        let versions = i64::try_from(versions).unwrap_or(i64::MAX);
        self.replicas.backlog.set(versions);
    }

    /// Ciphertexts of a sample that stayed missing.
    pub(crate) fn replicas_missing(&self, count: u32) {
        self.replicas.missing.set(count.into());
    }

    /// Counts a ciphertext that was read and held against its address.
    pub(crate) fn replica_checked(&self, is_whole: bool) {
        self.replicas.checked.inc();
        if !is_whole {
            self.replicas.failed.inc();
        }
    }

    /// Counts a ciphertext that was fetched from another member.
    pub(crate) fn replica_repaired(&self) {
        self.replicas.repaired.inc();
    }

    /// Counts a question for a copy that another member should hold.
    pub(crate) fn replica_asked(&self, is_given: bool) {
        self.replicas.asked.inc();
        if !is_given {
            self.replicas.not_given.inc();
        }
    }

    /// Counts an answered request. `status` is the HTTP status code.
    pub fn answered(&self, class: Class, status: u16, took: Duration) {
        self.requests
            .get_or_create(&Answered { class, status })
            .inc();
        self.durations
            .get_or_create(&OfClass { class })
            .observe(took.as_secs_f64());
    }

    /// Counts shares that a custodian gave and that were none.
    pub(crate) fn wrong_shares(&self, count: u64) {
        self.wrong_shares.inc_by(count);
    }

    /// Counts a receipt that was written.
    pub(crate) fn receipt(&self, allowed: bool) {
        self.receipts.inc();
        if !allowed {
            self.refusals.inc();
        }
    }
}

impl Service {
    /// The node's counters.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All metrics as OpenMetrics text, with what is read from the stores as it is now.
    ///
    /// # Errors
    /// The ledger or the index can't answer.
    pub fn measured(&self) -> Result<String> {
        const WHAT: &str = "measuring the node";
        let metrics = &self.metrics;
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        let (ready, blocked) = self.ledger.pool_size();
        for (state, count) in [(Waits::Ready, ready), (Waits::Blocked, blocked)] {
            set(
                &metrics.pool.get_or_create(&Waiting { state }),
                count as u64,
            );
        }
        let block = self
            .ledger
            .block(BlockRef::Latest)
            .map_err(Error::ledger(WHAT))?
            .ok_or_else(|| Error::internal(WHAT, "there is no block"))?;
        let height = block.header.number;
        set(&metrics.height, height);
        let age_ms = self.clock.now().0.saturating_sub(block.header.timestamp_ms);
        set(&metrics.age, age_ms / 1000);
        let followed = self
            .index
            .chain()
            .height()
            .map_err(Error::index(WHAT))?
            .unwrap_or_default();
        set(&metrics.lag, height.saturating_sub(followed));
        let mut unanchored = 0_u64;
        for organization in self.hosted_organizations()? {
            let (written, _) = self
                .index
                .local()
                .receipt_head(organization.0)
                .map_err(Error::index(WHAT))?;
            let (anchored, _) = self.anchored_head(organization.0)?;
            unanchored = unanchored.saturating_add(written.saturating_sub(anchored));
        }
        set(&metrics.unanchored, unanchored);
        set(&metrics.blobs, self.vault.store().blobs());
        set(&metrics.replicas.held, self.vault.store().parcels());
        let custodian = self.vault.custodian();
        let current = custodian.current();
        let custodians = current.map_or(1, |custody| custody.custodians.len());
        set(&metrics.custodians, custodians as u64);
        set(&metrics.alone, u64::from(custodian.keeps_alone()));
        set(&metrics.undealt, custodian.undealt().len() as u64);
        let untold = self.vault.untold_erasures().map_err(Error::vault(WHAT))?;
        set(&metrics.untold, untold.len() as u64);
        let mut out = String::new();
        text::encode(&mut out, &metrics.registry).map_err(|error| Error::internal(WHAT, error))?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every metric that is served is documented, and every documented one is served.
    #[test]
    fn the_document_lists_what_is_served() {
        let metrics = Metrics::default();
        metrics.answered(Class::Read, 200, Duration::from_millis(3));
        // A family without members is not served.
        drop(metrics.pool.get_or_create(&Waiting {
            state: Waits::Ready,
        }));
        let mut out = String::new();
        text::encode(&mut out, &metrics.registry).expect("encodes");
        let served: BTreeSet<&str> = out
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let document = include_str!("../../../docs/METRICS.md");
        let documented: BTreeSet<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split('`').next())
            // Further down stand some of the engine's.
            .filter(|name| name.starts_with("stele_"))
            .collect();
        assert_eq!(documented, served);
        assert!(
            out.contains(r#"stele_http_requests_total{class="Read",status="200"} 1"#),
            "{out}"
        );
    }

    #[test]
    fn addresses_have_a_class() {
        for (method, route, class) in [
            ("GET", "/fhir/r4/{type}/{id}", Class::Read),
            ("GET", "/fhir/r4/{type}/{id}/_history", Class::Read),
            ("GET", "/fhir/r4/{type}", Class::Search),
            ("POST", "/fhir/r4/{type}/_search", Class::Search),
            ("POST", "/fhir/r4/{type}", Class::Write),
            ("POST", "/fhir/r4", Class::Write),
            ("PUT", "/fhir/r4/{type}/{id}", Class::Write),
            ("GET", "/fhir/r4/{type}/{id}/$everything", Class::Operation),
            ("GET", "/fhir/r4/metadata", Class::Other),
            ("POST", "/auth/token", Class::Auth),
            ("GET", "/own/records", Class::Own),
            ("POST", "/admin/grants", Class::Admin),
            ("GET", "/ipfs/{cid}", Class::Ipfs),
            ("GET", "/", Class::Other),
            ("GET", "-", Class::Other),
        ] {
            assert_eq!(Class::of(method, route), class, "{method} {route}");
        }
    }
}

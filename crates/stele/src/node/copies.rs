//! Copies of records among the members: how many, and the tasks that look after those held here.

use std::{sync::Arc, time::Duration};

use stele_service::{Service, network::Replicas};
use tokio::task::JoinSet;

use crate::config::{Config, NetworkConfig};

/// How often what is to be copied here is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// Says how copies are kept, as the configuration has it.
pub(super) fn set(network: &NetworkConfig, service: &Service) {
    let replicas = network.replicas;
    service.set_replicas(Replicas {
        copies: replicas.copies,
        requests: replicas.requests,
        check: Duration::from_secs(replicas.check_s),
        sample: replicas.sample,
    });
}

/// Copies other members' records here, and checks what is held, until dropped.
pub(super) fn run(config: &Config, service: &Arc<Service>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if config.network.is_some() {
        tasks.spawn(Arc::clone(service).run_replicas(PAUSE));
        tasks.spawn(Arc::clone(service).run_replica_checks());
    }
    tasks
}

//! `/metrics` and `/metrics/consensus` on an address of their own: OpenMetrics text for a monitoring system.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use stele_consensus::Meter;
use stele_service::Service;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::config::Config;

/// Serves the node's metrics. Where the default port is taken, as by a second node on one machine, another is.
pub(super) async fn serve(
    config: &Config,
    service: &Arc<Service>,
    meter: Meter,
) -> Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let wanted = config.metrics;
    let listener = match TcpListener::bind(wanted).await {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && wanted == Config::default().metrics =>
        {
            tracing::warn!(%wanted, "the port for metrics is taken; ready.json names another");
            TcpListener::bind(SocketAddr::new(wanted.ip(), 0)).await
        }
        bound => bound,
    }
    .with_context(|| format!("listening for metrics on {wanted}"))?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(service))
        .merge(
            Router::new()
                .route("/metrics/consensus", get(consensus))
                .with_state(meter),
        );
    Ok((
        address,
        tokio::spawn(axum::serve(listener, router).into_future()),
    ))
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let measured = tokio::task::spawn_blocking(move || service.measured()).await;
    match measured.map_err(|error| error.to_string()) {
        Ok(Ok(text)) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Ok(Err(error)) => failed(&error.to_string()),
        Err(error) => failed(&error),
    }
}

/// The engine's own metrics, under the names its crates give them: views, votes, connections.
async fn consensus(State(meter): State<Meter>) -> Response {
    let text = meter.read().await;
    if text.is_empty() {
        return failed("the engine has ended");
    }
    ([(CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

fn failed(error: &str) -> Response {
    tracing::error!(error, "metrics.failed");
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

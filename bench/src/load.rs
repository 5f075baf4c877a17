//! Load: many workers taking numbered jobs until none is left, and how long each took.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

/// What a load took.
pub(crate) struct Took {
    /// From the first job's start to the last one's end.
    pub(crate) wall_s: f64,
    sorted_ms: Vec<f64>,
}

impl Took {
    /// Jobs that took so many milliseconds each, in so many seconds.
    pub(crate) fn of(mut each_ms: Vec<f64>, wall_s: f64) -> Self {
        each_ms.sort_by(f64::total_cmp);
        Self {
            wall_s,
            sorted_ms: each_ms,
        }
    }

    /// Jobs a second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.sorted_ms.len()) / self.wall_s
    }

    /// Median time of a job in milliseconds.
    pub(crate) fn p50_ms(&self) -> f64 {
        self.quantile(50)
    }

    /// The time in milliseconds under which 95 of 100 jobs stayed.
    pub(crate) fn p95_ms(&self) -> f64 {
        self.quantile(95)
    }

    fn quantile(&self, percent: usize) -> f64 {
        let at = (self.sorted_ms.len() * percent / 100).min(self.sorted_ms.len().saturating_sub(1));
        self.sorted_ms.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// Runs jobs `0..jobs` on `workers` workers. The first error ends it.
pub(crate) async fn run<F, T>(jobs: usize, workers: usize, job: F) -> Result<Took>
where
    F: Fn(usize) -> T + Send + Sync + Clone + 'static,
    T: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    let started = Instant::now();
    for _ in 0..workers.min(jobs) {
        let (next, job) = (Arc::clone(&next), job.clone());
        running.spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs {
                    return anyhow::Ok(took);
                }
                let began = Instant::now();
                job(number).await.with_context(|| format!("job {number}"))?;
                took.push(milliseconds(began.elapsed()));
            }
        });
    }
    let mut each_ms = Vec::with_capacity(jobs);
    while let Some(done) = running.join_next().await {
        each_ms.extend(done.context("a worker stopped")??);
    }
    Ok(Took::of(each_ms, started.elapsed().as_secs_f64()))
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A count as a float: counts here are far below 2^52.
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

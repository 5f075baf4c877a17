//! Objects in an S3-compatible store. Small blobs, tables and keys stay in the vault's folder.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::AmazonS3Builder,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
        ReqwestConnector,
    },
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Where the bucket is and what opens it.
#[derive(Clone)]
pub struct S3Config {
    /// URL of the service, for example `https://s3.example.org`; `http://` only where
    /// `allow_http` says so.
    pub endpoint: String,
    /// Name of the bucket. Several vaults may share one: each writes under a prefix of its own.
    pub bucket: String,
    /// Region; many self-hosted services take any.
    pub region: String,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Zeroizing<String>,
    /// Whether plain HTTP is accepted: for a service on the same machine. Ciphertext only crosses
    /// the wire, but the request signatures would be seen.
    pub allow_http: bool,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// An object store over a bucket, for [`crate::Config::objects`].
///
/// # Errors
/// [`Error::Objects`] if the configuration cannot be one. Nothing is sent yet.
pub fn s3(config: &S3Config) -> Result<Arc<dyn ObjectStore>> {
    AmazonS3Builder::new()
        .with_endpoint(&config.endpoint)
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_access_key_id(&config.access_key_id)
        .with_secret_access_key(config.secret_access_key.as_str())
        .with_allow_http(config.allow_http)
        .with_http_connector(PartsByHeader)
        .with_retry(RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        })
        .build()
        .map(|store| -> Arc<dyn ObjectStore> { Arc::new(store) })
        .map_err(Error::objects("configuring S3"))
}

/// A service that restarts is back by then; somebody waits for the answer.
const RETRIES_MAX: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects as usual, and takes an answer with `Content-Range` for the 206 that it means: rclone, for one, sends the
/// part that was asked for with status 200, which the client would refuse as the whole object (RFC 9110 §15.3.7).
#[derive(Debug)]
struct PartsByHeader;

impl HttpConnector for PartsByHeader {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let usual = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(PartsByHeaderService(usual)))
    }
}

#[derive(Debug)]
struct PartsByHeaderService(HttpClient);

impl HttpService for PartsByHeaderService {
    fn call<'a, 'call>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'call, Result<HttpResponse, HttpError>>
    where
        'a: 'call,
    {
        Box::pin(async move {
            let mut response = self.0.execute(request).await?;
            if response.status() == 200 && response.headers().contains_key("content-range") {
                *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
            }
            Ok(response)
        })
    }
}

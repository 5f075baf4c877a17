//! What a connection that stays open asks, and what it is answered: the same over WebSocket and over the Unix socket.

use jsonrpsee::{
    ConnectionId, MethodCallback, MethodResponse, MethodSink, Methods,
    core::server::{BoundedSubscriptions, SubscriptionState, prepare_error},
    types::{
        ErrorObjectOwned, Id, Notification, Params, Request,
        error::{
            ErrorCode, reject_too_big_batch_request, reject_too_big_batch_response,
            reject_too_big_request, reject_too_many_subscriptions,
        },
    },
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{RpcConfig, subscriptions::HexIds};

/// Answers and notifications that wait for a reader; whoever is told more waits.
pub(super) const ANSWERS_AHEAD: usize = 1_024;

/// What every connection is bounded by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) request_bytes: u32,
    response_bytes: u32,
    batch: u32,
    subscriptions: u32,
}

impl Limits {
    pub(super) const fn new(config: &RpcConfig) -> Self {
        Self {
            request_bytes: config.max_request_bytes,
            response_bytes: config.max_response_bytes,
            batch: config.max_batch,
            subscriptions: config.max_subscriptions,
        }
    }

    /// What is said to a request over the limit.
    pub(super) fn too_long(self) -> Box<RawValue> {
        error(reject_too_big_request(self.request_bytes))
    }

    fn response_bytes(self) -> usize {
        usize::try_from(self.response_bytes).unwrap_or(usize::MAX)
    }
}

/// One connection.
pub(super) struct Conversation {
    methods: Methods,
    limits: Limits,
    id: ConnectionId,
    subscriptions: BoundedSubscriptions,
}

impl Conversation {
    pub(super) fn new(methods: Methods, limits: Limits, id: ConnectionId) -> Self {
        Self {
            methods,
            limits,
            id,
            subscriptions: BoundedSubscriptions::new(limits.subscriptions),
        }
    }

    /// The answer to one message, if it has one. What a subscription tells goes to `answers`.
    pub(super) async fn answer(
        &self,
        message: &[u8],
        answers: &mpsc::Sender<Box<RawValue>>,
    ) -> Option<Box<RawValue>> {
        let message = message.trim_ascii_start();
        if message.first() != Some(&b'[') {
            return self.call(message, answers).await;
        }
        let Ok(calls) = serde_json::from_slice::<Vec<&RawValue>>(message) else {
            return Some(error(ErrorCode::ParseError.into()));
        };
        let most = usize::try_from(self.limits.batch).unwrap_or(usize::MAX);
        if calls.is_empty() {
            return Some(error(ErrorCode::InvalidRequest.into()));
        }
        if calls.len() > most {
            return Some(error(reject_too_big_batch_request(most)));
        }
        let longest = self.limits.response_bytes();
        let mut said = String::from("[");
        for call in calls {
            let Some(answer) = self.call(call.get().as_bytes(), answers).await else {
                continue;
            };
            if said.len() > 1 {
                said.push(',');
            }
            said.push_str(answer.get());
            if said.len() >= longest {
                return Some(error(reject_too_big_batch_response(longest)));
            }
        }
        if said.len() == 1 {
            // Notifications only.
            return None;
        }
        said.push(']');
        RawValue::from_string(said).ok()
    }

    async fn call(
        &self,
        text: &[u8],
        answers: &mpsc::Sender<Box<RawValue>>,
    ) -> Option<Box<RawValue>> {
        let request: Request<'_> = match serde_json::from_slice(text) {
            Ok(request) => request,
            Err(_) => {
                if serde_json::from_slice::<Notification<'_, Option<&RawValue>>>(text).is_ok() {
                    return None;
                }
                let (id, _) = prepare_error(text);
                let code = match serde_json::from_slice::<&RawValue>(text) {
                    Ok(_) => ErrorCode::InvalidRequest,
                    Err(_) => ErrorCode::ParseError,
                };
                return Some(MethodResponse::error(id, ErrorObjectOwned::from(code)).into_json());
            }
        };
        let Request {
            id, method, params, ..
        } = request;
        let params = Params::new(params.as_ref().map(|params| params.get()));
        let most = self.limits.response_bytes();
        let extensions = http::Extensions::new();
        let response = match self.methods.method(&method) {
            None => {
                let unknown = ErrorObjectOwned::from(ErrorCode::MethodNotFound);
                MethodResponse::error(id, unknown)
            }
            Some(MethodCallback::Sync(call)) => call(id, params, most, extensions),
            Some(MethodCallback::Async(call)) => {
                let (id, params) = (id.into_owned(), params.into_owned());
                call(id, params, self.id, most, extensions).await
            }
            Some(MethodCallback::Unsubscription(call)) => {
                call(id, params, self.id, most, extensions)
            }
            Some(MethodCallback::Subscription(call)) => {
                let Some(subscription_permit) = self.subscriptions.acquire() else {
                    let refusal = reject_too_many_subscriptions(self.limits.subscriptions);
                    return Some(MethodResponse::error(id, refusal).into_json());
                };
                let state = SubscriptionState {
                    conn_id: self.id,
                    id_provider: &HexIds,
                    subscription_permit,
                };
                let sink = MethodSink::new_with_limit(answers.clone(), self.limits.response_bytes);
                let response = call(id, params, sink, state, extensions).await;
                // The answer went through the sink, before anything that is told.
                done(response);
                return None;
            }
        };
        Some(done(response))
    }
}

/// A refusal that answers no request in particular.
pub(super) fn error(object: ErrorObjectOwned) -> Box<RawValue> {
    MethodResponse::error(Id::Null, object).into_json()
}

/// Lets whoever waits for it know that the answer is on its way.
fn done(response: MethodResponse) -> Box<RawValue> {
    let success = response.is_success();
    let (json, waiting, _) = response.into_parts();
    if let Some(waiting) = waiting {
        waiting.notify(success);
    }
    json
}

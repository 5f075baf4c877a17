//! Patients who keep their own keys: signing in with a key, and what their own device reads, signs and sends.
//! Documented in `docs/api.md`. Nothing secret of theirs ever comes here.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    response::IntoResponse as _,
    routing::{get, post},
};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::{
    abi::consent::IConsent::{grantBySigCall, revokeBySigCall},
    consent::{Purpose, Terms},
    export::SignerProof,
    id::PatientId,
};
use stele_fhir::outcome::IssueCode;
use stele_service::{
    Service,
    own::SignIn,
    session::{Actor, ActorKind},
};

use crate::{
    admin::{decider, decode, grant_lines, request_lines},
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{NewToken, Principal, Scopes, mint},
};

/// How long a token that a key signed in for lives, in seconds.
const TOKEN_S: u64 = 900;

/// The addresses of this module.
pub(crate) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/auth/key", post(sign_in))
        .route("/own/account", get(account))
        .route("/own/grantees/{account}", get(grantee))
        .route("/own/grants", get(grants).post(relay_grant))
        .route("/own/grants/revoke", post(relay_revoke))
        .route("/own/requests", get(requests))
        .route("/own/transactions", post(relay_transaction))
        .route("/own/signer/{key}", get(signer))
        .route("/own/records", get(records))
        .route("/own/records/{type}/{id}", get(record))
        .route("/admin/patients/{patient}/claim/offer", post(offer_claim))
        .route("/admin/patients/{patient}/claim", post(claim))
}

/// `POST /auth/key`: an access token for the patient whose key signed.
async fn sign_in(State(front): State<Arc<Front>>, Json(signed): Json<SignIn>) -> Answer {
    let config = &front.config;
    let patient = front.service.sign_in(&signed, &config.base_url)?;
    let token = NewToken {
        client: "own-key".into(),
        organization: front.service.organization_of(patient.0)?,
        practitioner: None,
        patient: Some(patient),
        scopes: Scopes::parse_lenient("system/*.rs"),
        purposes: vec![Purpose::Patrqt],
        lifetime_s: TOKEN_S,
    };
    let token = mint(
        &config.token_key,
        &config.base_url,
        &token,
        front.service.now(),
    )
    .map_err(|error| {
        tracing::error!(error = %error, "own.sign_in");
        Problem::unauthorized(None, "no token could be signed")
    })?;
    answer(json!({ "access_token": token, "token_type": "bearer", "expires_in": TOKEN_S }))
}

fn answer(value: Value) -> Answer {
    Ok(Json(value).into_response())
}

/// The patient that a token was signed in for.
fn own(principal: &Principal) -> Result<(&Actor, PatientId), Problem> {
    let actor = &principal.actor;
    if actor.kind == ActorKind::Patient {
        Ok((actor, PatientId(actor.account)))
    } else {
        Err(Problem::insufficient_scope("a patient's own sign-in"))
    }
}

async fn account(State(front): State<Arc<Front>>, principal: Principal) -> Answer {
    let (actor, _) = own(&principal)?;
    answer(json!(front.service.own_account(actor)?))
}

async fn grantee(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(account): Path<Address>,
) -> Answer {
    own(&principal)?;
    // Whoever is not registered has no key here, and none is made for them.
    if front.service.account(account)?.is_none() {
        return Err(Problem::not_found("there is no such account"));
    }
    let key = front.service.grantee_key(account).await?;
    answer(json!({
        "account": account,
        "key": base64::engine::general_purpose::STANDARD.encode(key)
    }))
}

async fn grants(State(front): State<Arc<Front>>, principal: Principal) -> Answer {
    let (actor, patient) = own(&principal)?;
    answer(grant_lines(&front.service, actor, patient)?)
}

async fn requests(State(front): State<Arc<Front>>, principal: Principal) -> Answer {
    let (actor, patient) = own(&principal)?;
    answer(request_lines(&front.service, actor, patient)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayedGrant {
    grant: SignedGrant,
    envelopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignedGrant {
    grantee: Address,
    terms: Terms,
    envelope_digest: B256,
    request: u32,
    nonce: u64,
    deadline: u64,
    signature: Bytes,
}

async fn relay_grant(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(relayed): Json<RelayedGrant>,
) -> Answer {
    let (_, patient) = own(&principal)?;
    let envelopes = relayed
        .envelopes
        .iter()
        .map(|text| decode(text, "an envelope"))
        .collect::<Result<Vec<_>, _>>()?;
    let signed = relayed.grant;
    let call = grantBySigCall {
        patient: patient.0,
        grantee: signed.grantee,
        terms: signed.terms.to_abi(),
        envelopeDigest: signed.envelope_digest,
        request: signed.request,
        nonce: signed.nonce,
        deadline: alloy_primitives::aliases::U40::saturating_from(signed.deadline),
        signature: signed.signature,
    };
    let (id, transaction, height) = front.service.relay_encoded_grant(call, &envelopes).await?;
    answer(json!({ "id": id, "transaction": transaction, "height": height }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RelayedRevoke {
    grantee: Address,
    id: u32,
    nonce: u64,
    deadline: u64,
    signature: Bytes,
    directory_root: B256,
    directory: String,
    envelopes: Vec<Envelope>,
}

/// Keys sealed to a grantee.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    grantee: Address,
    envelope: String,
}

fn envelopes(list: &[Envelope]) -> Result<Vec<(Address, Vec<u8>)>, Problem> {
    list.iter()
        .map(|one| Ok((one.grantee, decode(&one.envelope, "an envelope")?)))
        .collect()
}

async fn relay_revoke(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(relayed): Json<RelayedRevoke>,
) -> Answer {
    let (_, patient) = own(&principal)?;
    let directory = decode(&relayed.directory, "directory")?;
    let envelopes = envelopes(&relayed.envelopes)?;
    let call = revokeBySigCall {
        patient: patient.0,
        grantee: relayed.grantee,
        id: relayed.id,
        directoryRoot: relayed.directory_root,
        nonce: relayed.nonce,
        deadline: alloy_primitives::aliases::U40::saturating_from(relayed.deadline),
        signature: relayed.signature,
    };
    let (transaction, height) = front
        .service
        .relay_revoke(call, &directory, &envelopes)
        .await?;
    answer(json!({ "transaction": transaction, "height": height }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    transaction: Bytes,
}

async fn relay_transaction(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(signed): Json<Signed>,
) -> Answer {
    let (actor, _) = own(&principal)?;
    let (transaction, height) = front
        .service
        .relay_transaction(actor, signed.transaction)
        .await?;
    answer(json!({ "transaction": transaction, "height": height }))
}

/// What proves that a key may sign for the patient, for a file that the patient signs.
async fn signer(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(key): Path<Address>,
) -> Answer {
    let (_, patient) = own(&principal)?;
    let proof: SignerProof = front.service.signer_proof(patient.0, Some(key))?;
    answer(json!(proof))
}

async fn records(
    State(front): State<Arc<Front>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Answer {
    let (actor, _) = own(&principal)?;
    let pairs = body::pairs(query.unwrap_or_default().as_bytes());
    let cursor = pairs
        .iter()
        .find(|(name, _)| name == "cursor")
        .map(|(_, value)| value.as_str());
    let (records, next) = front.service.own_records(actor, cursor).await?;
    answer(json!({ "records": records, "next": next }))
}

async fn record(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let (actor, _) = own(&principal)?;
    let pairs = body::pairs(query.unwrap_or_default().as_bytes());
    let version = pairs
        .iter()
        .find(|(name, _)| name == "version")
        .map(|(_, value)| value.parse::<u32>())
        .transpose()
        .map_err(|_| Problem::bad_request(IssueCode::Value, "version is not a number"))?;
    let record = front
        .service
        .own_record(actor, &resource_type, &id, version)
        .await?;
    answer(json!(record))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offer {
    /// X-Wing public key that the root key is sealed to, in base64.
    key: String,
}

async fn offer_claim(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(patient): Path<String>,
    Json(offer): Json<Offer>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&patient)?;
    let key = decode(&offer.key, "key")?;
    let offered = front
        .service
        .offer_claim(&decider(&front.service, patient)?, patient, &key)
        .await?;
    answer(json!(offered))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Claim {
    /// Address of the secp256k1 key that speaks for the account from now on.
    key: Address,
    directory: String,
    envelopes: Vec<Envelope>,
}

async fn claim(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(patient): Path<String>,
    Json(claim): Json<Claim>,
) -> Answer {
    principal.require_admin()?;
    let service: &Arc<Service> = &front.service;
    let patient = service.patient_of(&patient)?;
    let directory = decode(&claim.directory, "directory")?;
    let envelopes = envelopes(&claim.envelopes)?;
    let (transaction, height) = service
        .claim(
            &decider(service, patient)?,
            patient,
            claim.key.into_word(),
            &directory,
            &envelopes,
        )
        .await?;
    answer(json!({ "transaction": transaction, "height": height }))
}

//! The operator's interface, which the command line speaks: organisations, staff, patients, clients, consent,
//! erasure. Every address needs a token with the scope `admin`; documented in `docs/api.md`.

mod messages;

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::{
    abi::consent::IConsent::grantBySigCall,
    consent::{Period, Permissions, Purpose, Terms},
    id::{OrganizationId, PatientId},
};
use stele_fhir::{category::Category, outcome::IssueCode, parse};
use stele_service::{
    Service, Write,
    clients::Client,
    directory::{OrganizationKind, role},
    grants::GrantRequest,
    session::{Actor, ActorKind},
};

use crate::{
    front::Front,
    problem::{Answer, Problem},
    smart::Principal,
};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// How long a request for access stays open, in days.
const REQUEST_DAYS: u64 = 90;

/// Everything under `/admin`.
pub(crate) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/admin/accounts/{account}", get(account))
        .route(
            "/admin/organizations",
            get(organizations).post(add_organization),
        )
        .route("/admin/practitioners", post(add_practitioner))
        .route("/admin/practitioners/{account}/status", post(set_status))
        .route("/admin/patients", post(add_own_patient))
        .route("/admin/clients", post(add_client))
        .route("/admin/consent/{patient}/{grantee}", get(consent_facts))
        .route("/admin/patients/{patient}/grants", get(grants))
        .route("/admin/grants", post(grant))
        .route("/admin/grants/revoke", post(revoke))
        .route("/admin/grants/relay", post(relay))
        .route("/admin/requests", post(request))
        .route("/admin/requests/decline", post(decline))
        .route("/admin/erase", post(erase))
        .route("/admin/messages", get(messages::list))
        .route("/admin/messages/{id}/retry", post(messages::retry))
        .route("/admin/messages/{id}/drop", post(messages::discard))
}

/// Facts of the chain that a verifier starts from; public.
pub(crate) async fn facts(State(front): State<Arc<Front>>) -> Json<Value> {
    let facts = front.service.ledger().facts();
    let validators: Vec<B256> = facts
        .validators
        .iter()
        .map(|validator| validator.key)
        .collect();
    Json(json!({
        "chainId": facts.chain_id,
        "genesisHash": facts.genesis_hash,
        "validators": validators
    }))
}

fn answer(value: Value) -> Answer {
    Ok(Json(value).into_response())
}

async fn account(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(account): Path<Address>,
) -> Answer {
    principal.require_admin()?;
    let known = front
        .service
        .account(account)?
        .ok_or_else(|| Problem::not_found("there is no such account"))?;
    let kind = match known.kind {
        1 => "organization",
        2 => "member",
        3 => "patient",
        4 => "device",
        _ => "unknown",
    };
    answer(json!({
        "account": account, "kind": kind, "active": known.active,
        "organization": known.sponsor, "roles": known.roles
    }))
}

async fn organizations(State(front): State<Arc<Front>>, principal: Principal) -> Answer {
    principal.require_admin()?;
    answer(json!(front.service.hosted_organizations()?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrganization {
    name: String,
    kind: OrganizationKind,
}

async fn add_organization(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(new): Json<NewOrganization>,
) -> Answer {
    principal.require_admin()?;
    let organization = front.service.add_organization(new.kind).await?;
    describe(
        &front.service,
        organization,
        "Organization",
        organization.0,
        json!(new.name),
    )
    .await?;
    answer(json!({ "organization": organization, "name": new.name }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPractitioner {
    name: String,
    organization: Option<OrganizationId>,
    roles: Vec<String>,
    #[serde(default)]
    licence: String,
}

async fn add_practitioner(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(new): Json<NewPractitioner>,
) -> Answer {
    principal.require_admin()?;
    let organization = new.organization.unwrap_or(principal.actor.organization);
    let roles = new
        .roles
        .iter()
        .try_fold(0, |roles, name| role_of(name).map(|role| roles | role))?;
    let account = front
        .service
        .add_practitioner(organization, roles, &new.licence)
        .await?;
    let name = json!([{ "text": new.name }]);
    describe(&front.service, organization, "Practitioner", account, name).await?;
    answer(json!({ "practitioner": account, "organization": organization, "name": new.name }))
}

fn role_of(name: &str) -> Result<u32, Problem> {
    Ok(match name {
        "doctor" => role::DOCTOR,
        "nurse" => role::NURSE,
        "pharmacist" => role::PHARMACIST,
        "laboratory" => role::LABORATORY,
        "insurance" => role::INSURANCE,
        "administrator" => role::ADMINISTRATOR,
        "auditor" => role::AUDITOR,
        "researcher" => role::RESEARCHER,
        other => {
            return Err(Problem::bad_request(
                IssueCode::Value,
                format!("{other:?} is not a role"),
            ));
        }
    })
}

/// Names stand in the directory, as FHIR resources; on chain is only the account.
async fn describe(
    service: &Service,
    organization: OrganizationId,
    resource_type: &str,
    account: Address,
    name: Value,
) -> Result<(), Problem> {
    let id = alloy_primitives::hex::encode(account);
    let text = json!({
        "resourceType": resource_type,
        "id": id,
        "identifier": [{
            "system": stele_service::records::ACCOUNT_SYSTEM,
            "value": account.to_string()
        }],
        "name": name
    })
    .to_string();
    let resource = parse::edited(text)
        .map_err(|issues| Problem::new(http::StatusCode::UNPROCESSABLE_ENTITY, issues))?;
    let actor = Actor::system(organization, Purpose::Treat, "operator");
    service
        .write(
            &actor,
            vec![Write::Update {
                resource,
                id,
                if_match: None,
            }],
        )
        .await?;
    Ok(())
}

#[derive(Deserialize)]
struct Status {
    active: bool,
}

async fn set_status(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(account): Path<Address>,
    Json(status): Json<Status>,
) -> Answer {
    principal.require_admin()?;
    let organization = front.service.organization_of(account)?;
    front
        .service
        .set_practitioner_status(organization, account, status.active)
        .await?;
    answer(json!({ "practitioner": account, "active": status.active }))
}

#[derive(Deserialize)]
struct OwnPatient {
    /// The public key directory, in base64.
    directory: String,
}

async fn add_own_patient(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(new): Json<OwnPatient>,
) -> Answer {
    principal.require_admin()?;
    let bytes = decode(&new.directory, "directory")?;
    let patient = front
        .service
        .register_directory(principal.actor.organization, &bytes)
        .await?;
    answer(json!({ "patient": patient }))
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, Problem> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| Problem::bad_request(IssueCode::Value, format!("{what} is not base64")))
}

async fn add_client(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(client): Json<Client>,
) -> Answer {
    principal.require_admin()?;
    front.service.register_client(&client)?;
    answer(json!({ "client": client.id }))
}

/// What a patient's own device needs to sign a grant.
async fn consent_facts(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((patient, grantee)): Path<(Address, Address)>,
) -> Answer {
    principal.require_admin()?;
    let key = front.service.grantee_key(grantee).await?;
    answer(json!({
        "chainId": front.service.ledger().facts().chain_id,
        "nonce": front.service.signature_nonce(PatientId(patient))?,
        "granteeKey": base64::engine::general_purpose::STANDARD.encode(key)
    }))
}

/// Who decides for a patient at the operator's desk: the organisation that registered the patient.
fn decider(front: &Front, patient: PatientId) -> Result<Actor, Problem> {
    let organization = front.service.organization_of(patient.0)?;
    Ok(Actor {
        kind: ActorKind::System,
        account: organization.0,
        organization,
        purposes: vec![Purpose::Treat],
        client: "operator".into(),
    })
}

async fn grants(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(patient): Path<String>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&patient)?;
    let now = front.service.now();
    let actor = decider(&front, patient)?;
    let all: Vec<Value> = front
        .service
        .grants_of(&actor, patient)?
        .iter()
        .map(|grant| {
            json!({
                "grantee": grant.grantee, "id": grant.id, "live": grant.is_live(now),
                "terms": grant.terms, "transaction": grant.granted.tx
            })
        })
        .collect();
    answer(json!(all))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    patient: String,
    grantee: Address,
    categories: Vec<String>,
    permissions: Vec<String>,
    purposes: Vec<String>,
    days: u32,
    request: Option<u32>,
}

async fn grant(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(new): Json<NewGrant>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&new.patient)?;
    let now = front.service.now();
    let bad = |text: String| Problem::bad_request(IssueCode::Value, text);
    let request = GrantRequest {
        patient,
        grantee: new.grantee,
        categories: categories(&new.categories)?,
        permissions: permissions(&new.permissions)?,
        purposes: new
            .purposes
            .iter()
            .map(|purpose| purpose.parse::<Purpose>().map_err(bad))
            .collect::<Result<_, _>>()?,
        period: Period {
            from: now,
            until: now.plus_ms(u64::from(new.days).saturating_mul(DAY_MS)),
        },
        months: None,
        request: new.request,
    };
    let granted = front
        .service
        .grant(&decider(&front, patient)?, request)
        .await?;
    answer(json!(granted))
}

fn categories(names: &[String]) -> Result<Vec<Category>, Problem> {
    if names.iter().any(|name| name == "all") {
        return Ok(Category::ALL.to_vec());
    }
    names
        .iter()
        .map(|name| {
            Category::from_name(name).ok_or_else(|| {
                Problem::bad_request(
                    IssueCode::Value,
                    format!("{name:?} is not a category; see docs/categories.md"),
                )
            })
        })
        .collect()
}

fn permissions(names: &[String]) -> Result<Permissions, Problem> {
    names.iter().try_fold(Permissions::default(), |all, name| {
        Ok(all.and(match name.as_str() {
            "read" => Permissions::READ,
            "write" => Permissions::WRITE,
            "share" => Permissions::SHARE,
            other => {
                return Err(Problem::bad_request(
                    IssueCode::Value,
                    format!("{other:?} is not a permission; use read, write or share"),
                ));
            }
        }))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldGrant {
    patient: String,
    grantee: Address,
    id: u32,
}

async fn revoke(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(old): Json<OldGrant>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&old.patient)?;
    let actor = decider(&front, patient)?;
    let (transaction, height) = front
        .service
        .revoke(&actor, patient, old.grantee, old.id)
        .await?;
    answer(json!({ "transaction": transaction, "height": height }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relayed {
    grant: SignedGrant,
    envelopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignedGrant {
    patient: Address,
    grantee: Address,
    terms: Terms,
    envelope_digest: B256,
    request: u32,
    nonce: u64,
    deadline: u64,
    signature: Bytes,
}

async fn relay(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(relayed): Json<Relayed>,
) -> Answer {
    principal.require_admin()?;
    let envelopes = relayed
        .envelopes
        .iter()
        .map(|text| decode(text, "an envelope"))
        .collect::<Result<Vec<_>, _>>()?;
    let signed = relayed.grant;
    let call = grantBySigCall {
        patient: signed.patient,
        grantee: signed.grantee,
        terms: signed.terms.to_abi(),
        envelopeDigest: signed.envelope_digest,
        request: signed.request,
        nonce: signed.nonce,
        deadline: alloy_primitives::aliases::U40::saturating_from(signed.deadline),
        signature: signed.signature,
    };
    let (transaction, height) = front.service.relay_encoded_grant(call, &envelopes).await?;
    answer(json!({ "transaction": transaction, "height": height }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRequest {
    patient: String,
    requester: Address,
    reason: String,
}

async fn request(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(new): Json<NewRequest>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&new.patient)?;
    let actor = Actor {
        account: new.requester,
        organization: front.service.organization_of(new.requester)?,
        kind: ActorKind::Practitioner,
        ..principal.actor
    };
    let until = front.service.now().plus_ms(REQUEST_DAYS * DAY_MS);
    let digest = keccak256(new.reason.as_bytes());
    let id = front
        .service
        .request_access(&actor, patient, digest, until)
        .await?;
    answer(json!({ "request": id, "detailsDigest": digest }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldRequest {
    patient: String,
    request: u32,
}

async fn decline(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(old): Json<OldRequest>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&old.patient)?;
    let actor = decider(&front, patient)?;
    let transaction = front.service.decline(&actor, patient, old.request).await?;
    answer(json!({ "transaction": transaction }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erasure {
    record: String,
    reason: u8,
}

async fn erase(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Json(erasure): Json<Erasure>,
) -> Result<Response, Problem> {
    principal.require_admin()?;
    let (resource_type, id) = erasure.record.split_once('/').ok_or_else(|| {
        Problem::bad_request(IssueCode::Value, "record is not of the form Type/id")
    })?;
    let actor = front.service.administrator_of(resource_type, id)?;
    let erased = front
        .service
        .erase(&actor, resource_type, id, erasure.reason)
        .await?;
    answer(json!(erased))
}

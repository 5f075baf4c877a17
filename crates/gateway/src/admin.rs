//! The operator's interface, which the command line speaks: organisations, staff, patients, clients, consent,
//! erasure. Every address needs a token with the scope `admin`; documented in `docs/api.md`.

mod messages;

use std::sync::Arc;

use alloy_primitives::{Address, B256, U64};
use axum::{
    Json, Router,
    extract::State,
    http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::{
    consent::{Period, Permissions, Purpose},
    id::{OrganizationId, PatientId},
    time::Timestamp,
};
use stele_fhir::{category::Category, outcome::IssueCode};
use stele_service::{
    Service,
    clients::Client,
    directory::OrganizationKind,
    grants::{GrantRequest, RequestDetails, RequestStatus},
    people::ROLES,
    session::{Actor, ActorKind},
};

use crate::{
    extract::{Named, Sent},
    front::Front,
    problem::{Answer, Problem},
    smart::{self, Principal},
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
        .route("/admin/invitations", post(invite))
        .route("/admin/clients", post(add_client))
        .route("/admin/patients/{patient}/grants", get(grants))
        .route("/admin/patients/{patient}/requests", get(requests))
        .route("/admin/grants", post(grant))
        .route("/admin/grants/revoke", post(revoke))
        .route("/admin/requests", post(request))
        .route("/admin/requests/decline", post(decline))
        .route("/admin/erase", post(erase))
        .route("/admin/messages", get(messages::list))
        .route("/admin/messages/{id}/retry", post(messages::retry))
        .route("/admin/messages/{id}/drop", post(messages::discard))
}

/// Facts of the chain that a verifier starts from; public.
pub(crate) async fn facts(State(front): State<Arc<Front>>) -> Response {
    let facts = front.service.ledger().facts();
    let validators: Vec<B256> = facts
        .validators
        .iter()
        .map(|validator| validator.key)
        .collect();
    let rpc_urls: Vec<&String> = front.config.rpc_url.get().into_iter().collect();
    let facts = json!({
        "chainId": facts.chain_id,
        "genesisHash": facts.genesis_hash,
        "validators": validators,
        "wallet": {
            "chainId": U64::from(facts.chain_id),
            "chainName": format!("Stele {}", facts.chain_id),
            "nativeCurrency": { "name": "No coin", "symbol": "NONE", "decimals": 18 },
            "rpcUrls": rpc_urls
        }
    });
    // Public, and asked for by pages of others, which hand `wallet` to `wallet_addEthereumChain`.
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(facts)).into_response()
}

fn answer(value: Value) -> Answer {
    Ok(Json(value).into_response())
}

async fn account(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Named(account): Named<Address>,
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
    Sent(new): Sent<NewOrganization>,
) -> Answer {
    principal.require_admin()?;
    let organization = front.service.add_organization(new.kind).await?;
    front
        .service
        .describe_organization(organization, &new.name)
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
    Sent(new): Sent<NewPractitioner>,
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
    front
        .service
        .describe_practitioner(organization, account, &new.name, "")
        .await?;
    answer(json!({ "practitioner": account, "organization": organization, "name": new.name }))
}

fn role_of(name: &str) -> Result<u32, Problem> {
    ROLES
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, bit, _)| *bit)
        .ok_or_else(|| Problem::bad_request(IssueCode::Value, format!("{name:?} is not a role")))
}

#[derive(Deserialize)]
struct Status {
    active: bool,
}

async fn set_status(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Named(account): Named<Address>,
    Sent(status): Sent<Status>,
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
    Sent(new): Sent<OwnPatient>,
) -> Answer {
    principal.require_admin()?;
    let bytes = decode(&new.directory, "directory")?;
    let patient = front
        .service
        .register_directory(principal.actor.organization, &bytes)
        .await?;
    answer(json!({ "patient": patient }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invited {
    /// FHIR id of a Patient, or an account.
    who: String,
}

/// A code with which a person makes the first passkey at the portal.
async fn invite(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Sent(invited): Sent<Invited>,
) -> Answer {
    principal.require_admin()?;
    let account = match invited.who.parse::<Address>() {
        Ok(account) => account,
        Err(_) => front.service.patient_of(&invited.who)?.0,
    };
    let invitation = front.service.invite(account)?;
    answer(json!({
        "code": invitation.code, "account": account,
        "expires": invitation.expires.to_instant(),
        "address": format!("{}/invitation", front.config.base_url)
    }))
}

pub(crate) fn decode(text: &str, what: &str) -> Result<Vec<u8>, Problem> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| Problem::bad_request(IssueCode::Value, format!("{what} is not base64")))
}

async fn add_client(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Sent(client): Sent<Client>,
) -> Answer {
    principal.require_admin()?;
    smart::check_client(&client)?;
    front.service.register_client(&client)?;
    answer(json!({ "client": client.id }))
}

/// Who decides for a patient at the operator's desk: the organisation that registered the patient.
pub(crate) fn decider(service: &Service, patient: PatientId) -> Result<Actor, Problem> {
    let organization = service.organization_of(patient.0)?;
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
    Named(patient): Named<String>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&patient)?;
    let actor = decider(&front.service, patient)?;
    answer(grant_lines(&front.service, &actor, patient)?)
}

/// A patient's grants, ended ones too, as both the desk and the patient see them. Categories are named where the
/// patient's key is here; the slots are for who has it.
pub(crate) fn grant_lines(
    service: &Service,
    actor: &Actor,
    patient: PatientId,
) -> Result<Value, Problem> {
    let now = service.now();
    let lines: Vec<Value> = service
        .grants_of(actor, patient)?
        .iter()
        .map(|grant| {
            let names = service
                .categories_of(patient, grant.terms.categories)
                .map(|found| found.into_iter().map(Category::name).collect::<Vec<_>>())
                .ok();
            json!({
                "grantee": grant.grantee, "id": grant.id, "live": grant.is_live(now),
                "categories": names, "terms": grant.terms, "request": grant.request,
                "granted": grant.granted.at.to_instant(), "transaction": grant.granted.tx,
                "revoked": grant.revoked.as_ref().map(|ended| ended.at.to_instant())
            })
        })
        .collect();
    Ok(json!(lines))
}

async fn requests(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Named(patient): Named<String>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&patient)?;
    let actor = decider(&front.service, patient)?;
    answer(request_lines(&front.service, &actor, patient)?)
}

/// Requests made to a patient, with what each asks for where it was made here.
pub(crate) fn request_lines(
    service: &Service,
    actor: &Actor,
    patient: PatientId,
) -> Result<Value, Problem> {
    let now = service.now();
    let mut lines = Vec::new();
    for request in service.requests_of(actor, patient)? {
        let status = match request.status {
            RequestStatus::Granted => "approved",
            RequestStatus::Declined => "declined",
            RequestStatus::Open if request.expires <= now => "expired",
            RequestStatus::Open => "open",
        };
        lines.push(json!({
            "request": request.id, "status": status, "requester": request.requester,
            "asks": service.request_details(&request)?, "expires": request.expires.to_instant(),
            "requested": request.requested.at.to_instant(),
            "transaction": request.requested.tx
        }));
    }
    Ok(json!(lines))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    patient: String,
    grantee: Address,
    categories: Vec<String>,
    permissions: Vec<String>,
    purposes: Vec<String>,
    /// For how long, unless `until` says when it ends.
    days: Option<u32>,
    /// When it ends, in milliseconds since the Unix epoch.
    until: Option<Timestamp>,
    /// First and last month of sealing of the records it opens, since January 1970; all when absent.
    months: Option<(u16, u16)>,
    request: Option<u32>,
}

/// How long a grant lasts when nothing else is said, in days.
const GRANT_DAYS: u32 = 30;

async fn grant(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Sent(new): Sent<NewGrant>,
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
            until: new.until.unwrap_or_else(|| {
                let days = new.days.unwrap_or(GRANT_DAYS);
                now.plus_ms(u64::from(days).saturating_mul(DAY_MS))
            }),
        },
        months: new.months.map(|(from, to)| from..=to),
        request: new.request,
    };
    let granted = front
        .service
        .grant(&decider(&front.service, patient)?, request)
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
    Sent(old): Sent<OldGrant>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&old.patient)?;
    let actor = decider(&front.service, patient)?;
    let (transaction, height) = front
        .service
        .revoke(&actor, patient, old.grantee, old.id)
        .await?;
    answer(json!({ "transaction": transaction, "height": height }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRequest {
    patient: String,
    requester: Address,
    reason: String,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    purposes: Vec<Purpose>,
}

async fn request(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Sent(new): Sent<NewRequest>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&new.patient)?;
    let actor = Actor {
        account: new.requester,
        organization: front.service.organization_of(new.requester)?,
        kind: ActorKind::Practitioner,
        ..principal.actor
    };
    // Checked now, so that approving it later can't fail on a typing mistake.
    categories(&new.categories)?;
    permissions(&new.permissions)?;
    let mut salt = B256::ZERO;
    getrandom::fill(salt.as_mut_slice()).map_err(|_| {
        Problem::one(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            IssueCode::Exception,
            "the system gives no random numbers",
        )
    })?;
    let details = RequestDetails {
        reason: new.reason,
        categories: new.categories,
        permissions: new.permissions,
        purposes: new.purposes,
        salt,
    };
    let until = front.service.now().plus_ms(REQUEST_DAYS * DAY_MS);
    let id = front
        .service
        .request_access(&actor, patient, &details, until)
        .await?;
    answer(json!({ "request": id, "expires": until.to_instant() }))
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
    Sent(old): Sent<OldRequest>,
) -> Answer {
    principal.require_admin()?;
    let patient = front.service.patient_of(&old.patient)?;
    let actor = decider(&front.service, patient)?;
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
    Sent(erasure): Sent<Erasure>,
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

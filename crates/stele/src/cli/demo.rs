//! The bundled demonstration: a consortium's people and six synthetic patients.

use std::fs;

use alloy_primitives::Address;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stele_core::{
    consent::Purpose,
    id::{OrganizationId, PatientId},
};
use stele_gateway::TokenKey;
use stele_service::{
    directory::{OrganizationKind, role},
    session::Actor,
};

use super::{
    client::{Client, Identity, operator_token},
    import::{Source, import},
};
use crate::{
    config::{self, Config},
    node::Node,
    output,
};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../demo/", $name)))),*]
    };
}

/// Synthetic patients and the organisations and practitioners they refer to; see `demo/README.md`.
pub(crate) const DIRECTORY: &[(&str, &[u8])] =
    embedded!["0-hospitals.json.bz2", "0-practitioners.json.bz2"];
pub(crate) const FIRST_HOSPITAL: &[(&str, &[u8])] = embedded![
    "085e81c0-7a95-ef02-16ef-aa1b4344deed.json.bz2",
    "5f66ecbb-b445-1290-4b55-9fc3ddfd569e.json.bz2",
    "d1193889-ebd9-4e35-bf1b-8a73ecbfc00b.json.bz2",
];
pub(crate) const SECOND_HOSPITAL: &[(&str, &[u8])] = embedded![
    "bba190d1-1356-0588-7a1b-7e1325835baa.json.bz2",
    "f500d29f-be62-9008-43c5-e2c173dde9bd.json.bz2",
    "5875d3aa-192c-6d05-221a-88a9cee35ff9.json.bz2",
];

/// The patient of the first hospital who shares a record in the demonstration of several members.
pub(crate) const SHARED_PATIENT: &str = "085e81c0-7a95-ef02-16ef-aa1b4344deed";

/// Who is in the demonstration; kept in `demo.json`, so that a second start finds it done.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cast {
    organizations: Vec<Member>,
    practitioners: Vec<Member>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Member {
    name: String,
    role: String,
    account: String,
}

/// Loads the demonstration once and says who can sign in and where.
pub(crate) async fn load(config: &Config, node: &Node) -> Result<()> {
    let path = config.data.join("demo.json");
    let cast = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string())?,
        Err(_) => {
            let cast = make(config, node).await?;
            fs::write(&path, serde_json::to_string_pretty(&cast)?)
                .with_context(|| format!("writing {}", path.display()))?;
            cast
        }
    };
    announce(config, node, &cast).await
}

async fn make(config: &Config, node: &Node) -> Result<Cast> {
    output::note(
        "Loading the demonstration: synthetic patients, two hospitals, a laboratory, a pharmacy.",
    );
    let service = &node.service;
    let first = service.organization();
    let second = service.add_organization(OrganizationKind::Hospital).await?;
    let laboratory = service
        .add_organization(OrganizationKind::Laboratory)
        .await?;
    let pharmacy = service.add_organization(OrganizationKind::Pharmacy).await?;
    let organizations = vec![
        member("Epidaurus General Hospital", "hospital", &first),
        member("Kos Heart Centre", "hospital", &second),
        member("Meridian Laboratory", "laboratory", &laboratory),
        member("Corner Pharmacy", "pharmacy", &pharmacy),
    ];
    let staff = [
        (first, "Dr Ana Reyes", "general practitioner", role::DOCTOR),
        (second, "Dr Tomas Lind", "cardiologist", role::DOCTOR),
        (
            laboratory,
            "Mira Osei",
            "laboratory scientist",
            role::LABORATORY,
        ),
        (pharmacy, "Jonas Weber", "pharmacist", role::PHARMACIST),
        (first, "Eva Stone", "administrator", role::ADMINISTRATOR),
        (first, "Paul Marsh", "auditor", role::AUDITOR),
    ];
    let mut practitioners = Vec::new();
    for (organization, name, what, roles) in staff {
        let account = service
            .add_practitioner(organization, roles, "demonstration")
            .await?;
        practitioners.push(member(name, what, &account));
    }
    let key = TokenKey::new(config::token_key(
        &config.data,
        &config.unlock(false)?,
        false,
    )?);
    describe(&key, node, &organizations, &practitioners).await?;
    for (organization, files) in [
        (first, DIRECTORY),
        (first, FIRST_HOSPITAL),
        (second, SECOND_HOSPITAL),
    ] {
        let client = client(&key, node, organization)?;
        let done = import(&client, sources(files), 2).await?;
        anyhow::ensure!(
            done.failed == 0,
            "{} resources of the demonstration were refused",
            done.failed
        );
    }
    Ok(Cast {
        organizations,
        practitioners,
    })
}

/// Embedded files as what an import takes.
pub(crate) fn sources(files: &[(&'static str, &'static [u8])]) -> Vec<Source> {
    files
        .iter()
        .map(|(name, bytes)| Source::Embedded(name, bytes))
        .collect()
}

/// The people of the demonstration as FHIR resources, so that they are found by name.
async fn describe(
    key: &TokenKey,
    node: &Node,
    organizations: &[Member],
    practitioners: &[Member],
) -> Result<()> {
    let client = client(key, node, node.service.organization())?;
    let entry: Vec<_> = organizations
        .iter()
        .map(|one| (one, "Organization", json!(one.name)))
        .chain(
            practitioners
                .iter()
                .map(|one| (one, "Practitioner", json!([{ "text": one.name }]))),
        )
        .map(|(one, kind, name)| {
            let id = one.account.trim_start_matches("0x").to_lowercase();
            let mut resource = json!({
                "resourceType": kind,
                "id": id,
                "identifier": [{ "system": "https://stele.health/account", "value": one.account }],
                "name": name
            });
            if let Some(members) = resource.as_object_mut().filter(|_| kind == "Practitioner") {
                let qualification = json!([{ "code": { "text": one.role } }]);
                members.insert("qualification".into(), qualification);
            }
            json!({
                "resource": resource,
                "request": { "method": "PUT", "url": format!("{kind}/{id}") }
            })
        })
        .collect();
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": entry });
    client
        .post("/fhir/r4", &bundle)
        .await
        .context("describing the demonstration's people")?;
    Ok(())
}

fn client(key: &TokenKey, node: &Node, organization: OrganizationId) -> Result<Client> {
    let identity = Identity {
        organization,
        practitioner: None,
    };
    let token = operator_token(
        key,
        &node.ready.http,
        "admin system/*.cruds",
        identity,
        3600,
    )?;
    Client::new(node.ready.http.clone(), token)
}

fn member(name: &str, role: &str, account: &impl std::fmt::Display) -> Member {
    Member {
        name: name.into(),
        role: role.into(),
        account: account.to_string(),
    }
}

async fn announce(config: &Config, node: &Node, cast: &Cast) -> Result<()> {
    output::note(format_args!("\nStele runs at {}", node.ready.http));
    output::note("Accounts of the demonstration:");
    for one in cast.organizations.iter().chain(&cast.practitioners) {
        output::note(format_args!(
            "  {:<28} {:<22} {}",
            one.name, one.role, one.account
        ));
    }
    output::note(format_args!(
        "Act as any of them: stele token --data {} --scope 'system/*.rs' --as ACCOUNT",
        config.data.display()
    ));
    if config.portal.enabled {
        invite(node, cast).await?;
    }
    output::note("");
    Ok(())
}

/// Codes for everybody of the demonstration who has no passkey yet.
async fn invite(node: &Node, cast: &Cast) -> Result<()> {
    let service = &node.service;
    let mut people: Vec<(String, String, Address)> = Vec::new();
    for one in &cast.practitioners {
        people.push((one.name.clone(), one.role.clone(), one.account.parse()?));
    }
    for organization in service.hosted_organizations()? {
        let desk = Actor::system(organization, Purpose::Treat, "demo");
        for account in service.accounts_of(organization, 3)? {
            let found = service.demographics(&desk, PatientId(account)).await?;
            people.push((found.name, "patient".into(), account));
        }
    }
    let mut lines = Vec::new();
    for (name, role, account) in people {
        if service.passkeys(account)?.is_empty() {
            let code = service.invite(account)?.code;
            lines.push(format!("  {name:<28} {role:<22} {code}"));
        }
    }
    if !lines.is_empty() {
        output::note(format_args!(
            "\nSign in at {}/invitation with one of these codes; each works once, for a day:",
            node.ready.http
        ));
        lines.iter().for_each(output::note);
    }
    Ok(())
}

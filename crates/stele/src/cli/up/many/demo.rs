//! The demonstration over several members: hospitals with their own patients and doctors, and one patient who lets the
//! second hospital's cardiologist read.

use std::{fs, path::Path};

use alloy_primitives::Address;
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stele_core::id::OrganizationId;
use stele_gateway::TokenKey;

use super::Member;
use crate::{
    cli::{
        client::{Client, Identity, operator_token},
        demo::{DIRECTORY, FIRST_HOSPITAL, SECOND_HOSPITAL, SHARED_PATIENT, sources},
        import::import,
    },
    config::{self, Config},
    output,
};

/// Names of the members and of a doctor at each; more members than names are called by their number.
const NAMES: [(&str, &str); 4] = [
    ("Epidaurus General Hospital", "Dr Ana Reyes"),
    ("Kos Heart Centre", "Dr Tomas Lind"),
    ("Pergamon University Hospital", "Dr Ines Okafor"),
    ("Meridian Clinic", "Dr Pavel Horak"),
];
/// What the first hospital's patient lets the second hospital's doctor read.
const CATEGORIES: [&str; 3] = ["cardiology", "laboratory", "vital-signs"];

/// Who is in the demonstration; kept in `demo.json`, so that a second start finds it done.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cast {
    members: Vec<Staffed>,
    patient: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staffed {
    name: String,
    organization: OrganizationId,
    doctor: String,
    account: Address,
}

/// Loads the demonstration once and says who is in it and what to try.
pub(super) async fn load(folder: &Path, members: &[Member]) -> Result<()> {
    let path = folder.join("demo.json");
    let cast: Cast = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string())?,
        Err(_) => {
            let cast = make(members).await?;
            fs::write(&path, serde_json::to_string_pretty(&cast)?)
                .with_context(|| format!("writing {}", path.display()))?;
            cast
        }
    };
    announce(members, &cast);
    Ok(())
}

async fn make(members: &[Member]) -> Result<Cast> {
    output::note(
        "Loading the demonstration: synthetic patients at two hospitals, a doctor at each.",
    );
    let mut staffed = Vec::new();
    for (position, member) in members.iter().enumerate() {
        let client = client(member)?;
        staffed.push(staff(position, member, &client).await?);
        let files = match position {
            0 => vec![DIRECTORY, FIRST_HOSPITAL],
            1 => vec![DIRECTORY, SECOND_HOSPITAL],
            _ => Vec::new(),
        };
        for files in files {
            let done = import(&client, sources(files), 2).await?;
            ensure!(
                done.failed == 0,
                "{} resources of the demonstration were refused",
                done.failed
            );
        }
    }
    if let (Some(first), Some(second)) = (members.first(), staffed.get(1)) {
        let grant = json!({
            "patient": SHARED_PATIENT, "grantee": second.account, "categories": CATEGORIES,
            "permissions": ["read"], "purposes": ["TREAT"], "days": 30
        });
        client(first)?
            .post("/admin/grants", &grant)
            .await
            .context("granting")?;
    }
    Ok(Cast {
        members: staffed,
        patient: SHARED_PATIENT.to_owned(),
    })
}

/// Gives a member its name and a doctor.
async fn staff(position: usize, member: &Member, client: &Client) -> Result<Staffed> {
    let (name, doctor) = match NAMES.get(position) {
        Some((name, doctor)) => ((*name).to_owned(), (*doctor).to_owned()),
        None => (member.name.clone(), format!("Doctor of {}", member.name)),
    };
    let organization = member.ready.organization;
    let id = organization
        .to_string()
        .trim_start_matches("0x")
        .to_lowercase();
    let resource = json!({
        "resourceType": "Organization", "id": id, "name": name,
        "identifier": [{ "system": "https://stele.health/account", "value": organization }]
    });
    let bundle = json!({
        "resourceType": "Bundle", "type": "transaction", "entry": [{
            "resource": resource,
            "request": { "method": "PUT", "url": format!("Organization/{id}") }
        }]
    });
    client
        .post("/fhir/r4", &bundle)
        .await
        .context("describing a member")?;
    let new = json!({ "name": doctor, "roles": ["doctor"], "licence": "demonstration" });
    let made = client.post("/admin/practitioners", &new).await?;
    let account = made
        .get("practitioner")
        .cloned()
        .context("a doctor's account")?;
    Ok(Staffed {
        name,
        organization,
        doctor,
        account: serde_json::from_value(account)?,
    })
}

/// A client that acts as the member itself.
fn client(member: &Member) -> Result<Client> {
    let config = Config {
        data: member.data.clone(),
        ..Config::default()
    };
    let key = TokenKey::new(config::token_key(
        &config.data,
        &config.unlock(false)?,
        false,
    )?);
    let identity = Identity {
        organization: member.ready.organization,
        practitioner: None,
    };
    let scope = "admin system/*.cruds";
    let token = operator_token(&key, &member.ready.http, scope, identity, 3600)?;
    Client::new(member.ready.http.clone(), token)
}

fn announce(members: &[Member], cast: &Cast) {
    output::note("People of the demonstration:");
    for one in &cast.members {
        output::note(format_args!(
            "  {:<30} {:<18} {}",
            one.name, one.doctor, one.account
        ));
    }
    let (Some(second), Some(doctor)) = (members.get(1), cast.members.get(1)) else {
        return;
    };
    output::note(format_args!(
        "\nA patient of {} lets {} read. At {}:",
        cast.members.first().map_or("the first", |one| &one.name),
        doctor.doctor,
        doctor.name
    ));
    output::note(format_args!(
        "  TOKEN=$(stele token --data {} --scope 'system/*.rs' --as {})",
        second.data.display(),
        doctor.account
    ));
    output::note(format_args!(
        "  curl -H \"authorization: Bearer $TOKEN\" '{}/fhir/r4/Observation?patient={}&_summary=count'",
        second.ready.http, cast.patient
    ));
}

//! `stele governance`: the members of the consortium decide by vote.

use alloy_primitives::{Address, B256};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use stele_service::{directory::OrganizationKind, governance::Decision};

use super::{Answer, client::Target, operator::print};
use crate::output;

/// The consortium's decisions: who belongs, who validates, who deploys contracts, and its parameters.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele governance show
  stele governance propose parameter staleness_ms 30000
  stele governance propose deployer 0x… allow
  stele governance propose suspend 0x…
  stele governance vote 3 yes --as 0x…

More than two thirds of the active organisations decide; a consortium of one decides alone.")]
pub(crate) struct GovernanceCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Propose a decision, and vote for it.
    #[command(after_help = "Examples:
  stele governance propose parameter staleness_ms 30000
  stele governance propose deployer 0x… allow --as 0x…")]
    Propose {
        #[command(subcommand)]
        what: Proposal,
    },
    /// Vote on an open proposal.
    #[command(after_help = "Examples:
  stele governance vote 3 yes
  stele governance vote 3 no --as 0x…")]
    Vote {
        /// Number of the proposal, as `stele governance show` prints it.
        proposal: u32,
        /// yes or no.
        #[arg(value_parser = ["yes", "no"])]
        vote: String,
        #[command(flatten)]
        member: Member,
    },
    /// Show the parameters in force, who may deploy contracts, and all proposals with their votes.
    #[command(after_help = "Examples:
  stele governance show --json")]
    Show {
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Who decides.
#[derive(Clone, Debug, Args)]
struct Member {
    /// Organisation of this node that decides [default: the node's own].
    #[arg(long = "as", value_name = "ACCOUNT")]
    act_as: Option<Address>,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Proposal {
    /// Admit an organisation whose keys are elsewhere (`stele org add` makes keys here and proposes).
    #[command(after_help = "Examples:
  stele governance propose admit 0x… --kind laboratory")]
    Admit {
        /// Its account.
        organization: Address,
        /// hospital, laboratory, pharmacy, insurer, regulator or research.
        #[arg(long, default_value = "hospital")]
        kind: String,
        #[command(flatten)]
        member: Member,
    },
    /// Suspend an organisation.
    #[command(after_help = "Examples:
  stele governance propose suspend 0x…")]
    Suspend {
        /// Its account.
        organization: Address,
        #[command(flatten)]
        member: Member,
    },
    /// Reinstate a suspended organisation.
    #[command(after_help = "Examples:
  stele governance propose reinstate 0x…")]
    Reinstate {
        /// Its account.
        organization: Address,
        #[command(flatten)]
        member: Member,
    },
    /// Set a parameter: staleness_ms, block_gas_limit, max_leaves, proposal_lifetime_s.
    #[command(after_help = "Examples:
  stele governance propose parameter staleness_ms 30000
  stele governance propose parameter block_gas_limit 100000000")]
    Parameter {
        /// Its name.
        name: String,
        /// Its value; docs/contracts/governance.md has the ranges.
        value: u64,
        #[command(flatten)]
        member: Member,
    },
    /// Allow or forbid an account to deploy contracts.
    #[command(after_help = "Examples:
  stele governance propose deployer 0x… allow
  stele governance propose deployer 0x… forbid")]
    Deployer {
        /// The account.
        account: Address,
        /// allow or forbid.
        #[arg(value_parser = ["allow", "forbid"])]
        rule: String,
        #[command(flatten)]
        member: Member,
    },
    /// Seat or unseat a validator; takes effect 33 to 64 blocks later.
    #[command(after_help = "Examples:
  stele governance propose validator 0xKEY seat --of 0x…")]
    Validator {
        /// Its ed25519 key, 32 bytes.
        key: B256,
        /// seat or unseat.
        #[arg(value_parser = ["seat", "unseat"])]
        rule: String,
        /// Organisation that runs it.
        #[arg(long = "of", value_name = "ACCOUNT")]
        organization: Address,
        #[command(flatten)]
        member: Member,
    },
}

impl Proposal {
    fn decision(self) -> Result<(Decision, Member)> {
        Ok(match self {
            Self::Admit {
                organization,
                kind,
                member,
            } => {
                let kind: OrganizationKind = match serde_json::from_value(json!(kind)) {
                    Ok(kind) => kind,
                    Err(_) => bail!(
                        "{kind:?} is not a kind of organisation; use hospital, laboratory, pharmacy, insurer, regulator or research"
                    ),
                };
                (Decision::Admit { organization, kind }, member)
            }
            Self::Suspend {
                organization,
                member,
            } => (Decision::Suspend { organization }, member),
            Self::Reinstate {
                organization,
                member,
            } => (Decision::Reinstate { organization }, member),
            Self::Parameter {
                name,
                value,
                member,
            } => (Decision::Parameter { name, value }, member),
            Self::Deployer {
                account,
                rule,
                member,
            } => {
                let allowed = rule == "allow";
                (Decision::Deployer { account, allowed }, member)
            }
            Self::Validator {
                key,
                rule,
                organization,
                member,
            } => {
                let seated = rule == "seat";
                let decision = Decision::Validator {
                    key,
                    organization,
                    seated,
                };
                (decision, member)
            }
        })
    }
}

impl GovernanceCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            What::Propose { what } => {
                let (decision, member) = what.decision()?;
                let body = json!({ "member": member.act_as, "what": decision });
                let client = member.target.connect()?;
                let answer = client.post("/admin/governance/proposals", &body).await?;
                print(&answer, member.json);
            }
            What::Vote {
                proposal,
                vote,
                member,
            } => {
                let body = json!({
                    "member": member.act_as, "proposal": proposal, "yes": vote == "yes"
                });
                let client = member.target.connect()?;
                let answer = client.post("/admin/governance/votes", &body).await?;
                print(&answer, member.json);
            }
            What::Show { target, json } => {
                let answer = target.connect()?.get("/admin/governance").await?;
                if json {
                    output::json(&answer);
                } else {
                    show(&answer);
                }
            }
        }
        Ok(Answer::Yes)
    }
}

fn show(answer: &Value) {
    let members = answer.get("parameters").and_then(Value::as_object);
    for (name, value) in members.into_iter().flatten() {
        output::line(format_args!("{name} = {value}"));
    }
    let list = |name: &str| {
        answer
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    if let Some(epoch) = answer.get("epoch").filter(|epoch| epoch.is_object()) {
        let number = |name: &str| epoch.get(name).and_then(Value::as_u64).unwrap_or_default();
        output::line(format_args!(
            "epoch {} since block {}",
            number("number"),
            number("first")
        ));
        let validators = epoch.get("validators").and_then(Value::as_array);
        for validator in validators.into_iter().flatten() {
            let text = |name: &str| validator.get(name).and_then(Value::as_str);
            output::line(format_args!(
                "validator: {} of {}",
                text("key").unwrap_or_default(),
                text("organization").unwrap_or_default()
            ));
        }
    }
    for account in list("deployers") {
        output::line(format_args!(
            "may deploy: {}",
            account.as_str().unwrap_or_default()
        ));
    }
    for proposal in list("proposals") {
        let count = |yes: bool| {
            let votes = proposal.get("votes").and_then(Value::as_array);
            votes
                .into_iter()
                .flatten()
                .filter(|vote| vote.get("yes").and_then(Value::as_bool) == Some(yes))
                .count()
        };
        output::line(format_args!(
            "proposal {}  {}  {} yes, {} no  {}",
            proposal.get("proposal").cloned().unwrap_or_default(),
            proposal
                .get("status")
                .and_then(Value::as_str)
                .unwrap_or_default(),
            count(true),
            count(false),
            proposal.get("what").cloned().unwrap_or_default()
        ));
    }
}

//! Wallets, for those who have one: signing in with it, and adding it to an account. The script shows them only where
//! the browser has a wallet; a person with passkeys never reads the word.

use std::sync::Arc;

use alloy_primitives::{Address, hex};
use axum::{
    Router,
    extract::{ConnectInfo, Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Redirect},
    routing::post,
};
use maud::{Markup, html};
use stele_service::{
    Error,
    people::{Act, Prepared, WalletUse},
};

use super::{account, share, sign_in};
use crate::{
    assets,
    error::{Answer, Refusal},
    form::Posted,
    front::{From, Portal},
    page::{csrf, token},
    session::{Signed, own_path, signed_in, with_cookies},
    text,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/sign-in/wallet", post(enter))
        .route("/sign-in/wallet/message", post(enter_message))
        .route("/account/wallets", post(add))
        .route("/account/wallets/message", post(add_message))
        .route("/account/wallets/remove", post(remove))
        .route("/access/check/{draft}/wallet", post(decide))
        .route("/access/check/{draft}/wallet/message", post(decide_message))
}

/// The way in with a wallet; hidden until the script has found one.
pub(super) fn entrance(csrf: &str, next: &str) -> Markup {
    html! {
        section.flow data-wallets hidden {
            h2 { (text!("Sign in with a wallet")) }
            p.soft { (text!("If you added a wallet to your account. It asks you to sign a text; nothing is paid.")) }
            (ask("/sign-in/wallet", text!("Use"), &token(csrf), &html! { input type="hidden" name="next" value=(next); }))
        }
        (script())
    }
}

/// An account's wallets; hidden where there are none and the script finds none.
pub(super) fn list(signed: &Signed, wallets: &[Address]) -> Markup {
    html! {
        section.flow data-wallets hidden[wallets.is_empty()] {
            h2 { (text!("Wallets")) }
            p.soft { (text!("A wallet can sign in, and can decide for your account on the ledger without this site. Add only one that you alone use. Sharing on this site asks for your passkey or for it.")) }
            @if !wallets.is_empty() {
                ul.rows {
                    @for wallet in wallets {
                        li.access-row {
                            p.mono { (wallet) }
                            form.row-acts method="post" action="/account/wallets/remove" {
                                (csrf(signed))
                                input type="hidden" name="wallet" value=(wallet);
                                button.btn.stop { (text!("Remove")) span.hide { " " (wallet) } }
                            }
                        }
                    }
                }
            }
            (ask("/account/wallets", text!("Add"), &csrf(signed), &html! {}))
        }
        (script())
    }
}

/// The other way to sign a decision, for a patient with a wallet; hidden until the script has found one.
pub(super) fn decision(portal: &Portal, signed: &Signed, draft: &Prepared) -> Answer<Markup> {
    let address = |account: &Address| html! { span.mono { (account) } };
    let what = match &draft.act {
        Act::Grant { grantee, .. } => rich!(
            "It shows what you sign field by field. Who gets access stands there as {address}.",
            address = address(grantee),
        ),
        Act::Revoke { grantee, .. } => rich!(
            "It shows what you sign field by field. Whose access ends stands there as {address}.",
            address = address(grantee),
        ),
        // The ledger takes no typed data for these.
        Act::StopAll { .. } | Act::Decline { .. } => return Ok(html! {}),
    };
    if signed.holds_keys || portal.service.wallets(signed.person.account)?.is_empty() {
        return Ok(html! {});
    }
    let action = format!("/access/check/{}/wallet", draft.id);
    Ok(html! {
        section.flow data-wallets hidden {
            h2 { (text!("Or sign with your wallet")) }
            p.soft { (what) }
            (ask(&action, text!("Sign with"), &csrf(signed), &html! {}))
        }
        (script())
    })
}

/// A form that the script fills with what a wallet signs; it adds a button for each wallet.
fn ask(action: &str, verb: &str, token: &Markup, more: &Markup) -> Markup {
    html! {
        form.flow method="post" action=(action) data-message={ (action) "/message" } data-verb=(verb) {
            (token)
            (more)
            input type="hidden" name="signature";
            div.actions data-choices {}
            p.error role="alert" data-problem hidden {}
        }
    }
}

fn script() -> Markup {
    html! { script type="module" src=(assets::address("wallet.js")) {} }
}

/// `POST /sign-in/wallet/message`: what the wallet is to sign, as text.
async fn enter_message(
    State(portal): State<Arc<Portal>>,
    ConnectInfo(from): From,
    posted: Posted,
) -> Answer {
    portal.attempt(from, &posted.headers)?;
    message(&portal, posted, WalletUse::SignIn)
}

/// `POST /account/wallets/message`
async fn add_message(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require_fresh(portal.service.now())?;
    message(&portal, posted, WalletUse::Add)
}

fn message(portal: &Portal, mut posted: Posted, what: WalletUse) -> Answer {
    let wallet = address(&posted)?;
    let text = portal.service.wallet_message(
        &portal.site,
        &posted.secret,
        &mut posted.session,
        wallet,
        what,
    )?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// `POST /sign-in/wallet`
async fn enter(
    State(portal): State<Arc<Portal>>,
    ConnectInfo(from): From,
    mut posted: Posted,
) -> Answer {
    portal.attempt(from, &posted.headers)?;
    let next = own_path(posted.fields.text("next"))
        .unwrap_or("/")
        .to_owned();
    let signature = signature(&posted);
    match portal.service.sign_in_with_wallet(
        &portal.site,
        &posted.secret,
        &mut posted.session,
        &signature,
    ) {
        Ok(person) => {
            let cookies = signed_in(&portal, &posted.secret, &person)?;
            let answer = Redirect::to(&next).into_response();
            Ok(with_cookies(answer, cookies))
        }
        Err(error @ Error::NotPermitted { .. }) => {
            let words = text::told(&error.public_message());
            let page = sign_in::sign_in_page(&portal, &posted.session, &next, Some(words));
            Ok((StatusCode::FORBIDDEN, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /account/wallets`
async fn add(State(portal): State<Arc<Portal>>, mut signed: Signed, mut posted: Posted) -> Answer {
    signed.require_fresh(portal.service.now())?;
    let signature = signature(&posted);
    let added = portal
        .service
        .add_wallet(
            &portal.site,
            &signed.person,
            &posted.secret,
            &mut posted.session,
            &signature,
        )
        .await;
    match added {
        Ok(()) => Ok(Redirect::to("/account").into_response()),
        Err(error @ (Error::NotPermitted { .. } | Error::Conflict { .. })) => {
            // The session's challenge is another one now.
            signed.session = posted.session;
            let page = account::show(&portal, &signed, Some(text::told(&error.public_message())))?;
            Ok((StatusCode::FORBIDDEN, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /access/check/{draft}/wallet/message`: the typed data that the wallet is to sign.
async fn decide_message(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(draft): Path<String>,
    posted: Posted,
) -> Answer {
    signed.patient()?;
    let wallet = address(&posted)?;
    let typed = portal.service.wallet_draft(&signed.actor, &draft, wallet)?;
    Ok(([(CONTENT_TYPE, "application/json")], typed).into_response())
}

/// `POST /access/check/{draft}/wallet`
async fn decide(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(draft): Path<String>,
    mut posted: Posted,
) -> Answer {
    signed.patient()?;
    let signature = signature(&posted);
    let settled = portal
        .service
        .confirm_draft_by_wallet(&signed.actor, &draft, &signature)
        .await
        .map_err(share::not_recorded)?;
    share::finished(&portal, &mut posted, &settled)
}

/// `POST /account/wallets/remove`
async fn remove(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require_fresh(portal.service.now())?;
    let wallet = address(&posted)?;
    portal.service.remove_wallet(&signed.person, wallet).await?;
    Ok(Redirect::to("/account").into_response())
}

fn address(posted: &Posted) -> Answer<Address> {
    posted
        .fields
        .text("wallet")
        .parse()
        .map_err(|_| Refusal::bad_form(text!("It names no wallet.")))
}

/// What the wallet returned; anything that is not hexadecimal is no signature.
fn signature(posted: &Posted) -> Vec<u8> {
    hex::decode(posted.fields.text("signature")).unwrap_or_default()
}

// A button that is pressed twice: the first press asks, the second does it.

const SURE = 4000; // ms in which a press may be confirmed

// `dataset.sure` is the timer that forgets the first press.
export function makeButton(text, label, act) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "kick", textContent: text, ariaLabel: label });
  const forget = () => {
    delete button.dataset.sure;
    button.textContent = text;
  };
  button.addEventListener("click", async () => {
    if (button.dataset.sure) {
      clearTimeout(button.dataset.sure);
      forget();
      await act();
      return;
    }
    button.textContent = "Sure?";
    button.dataset.sure = setTimeout(forget, SURE);
  });
  return button;
}

// Ask the server, and say what came of it.
export async function post(path, token, what, done) {
  const answer = await fetch(path, { method: "POST", headers: { "x-inspector-token": token } }).catch(() => null);
  const alert = document.getElementById("alert");
  alert.textContent = answer?.ok ? `${what} was ${done}` : `${what} was not ${done}: ${answer ? await answer.text() : "no connection"}`;
  alert.classList.toggle("shown", !answer?.ok);
}

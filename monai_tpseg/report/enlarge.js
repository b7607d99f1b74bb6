"use strict";
// a click on a thumbnail enlarges it; used by the report and the follow-up page
const large = document.getElementById("large");
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const [small, big] = [button.querySelector("img"), large.querySelector("img")];
    big.src = small.src;
    big.alt = small.alt;
    large.showModal();
  });
}
large.addEventListener("click", event => { if (event.target === large) large.close(); });

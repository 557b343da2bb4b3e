"use strict";
// The token comes after "#": a browser sends that part of an address to nobody.
(() => {
  const take = () => {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!given) return;
    history.replaceState(null, "", location.pathname + location.search);
    document.getElementById("token").value = given;
    document.getElementById("login").requestSubmit();
  };
  addEventListener("hashchange", take);
  take();
})();

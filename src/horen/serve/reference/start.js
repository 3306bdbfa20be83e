"use strict";
// The key that the service's own page keeps for this tab is used here too.
const key = sessionStorage.getItem("horen.key");
window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (key && !request.headers.Authorization) {
      request.headers.Authorization = `Bearer ${key}`;
    }
    return request;
  },
});

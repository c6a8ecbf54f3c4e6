"use strict";
const cameras = document.getElementById("cameras");
fetch("/api/v1/cameras").then((answer) => answer.json()).then((list) => {
  for (const camera of list) {
    const figure = document.createElement("figure");
    const picture = document.createElement("img");
    picture.src = `/api/v1/cameras/${encodeURIComponent(camera.name)}/stream.mjpeg?width=640`;
    picture.alt = camera.name;
    const caption = document.createElement("figcaption");
    caption.id = `camera-${camera.name}`;
    caption.textContent = camera.name;
    figure.append(picture, caption);
    cameras.append(figure);
  }
});
new EventSource("/api/v1/events?kinds=named").addEventListener("named", (event) => {
  const named = JSON.parse(event.data);
  const caption = document.getElementById(`camera-${named.camera}`);
  if (caption) caption.textContent = `${named.camera}: ${named.label} ${(100 * named.probability).toFixed(0)} %`;
});

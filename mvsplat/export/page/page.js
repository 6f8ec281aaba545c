// The page around the viewer: it unpacks what the file holds, places the scene, and lists cameras.
// Cameras are in the viewer's frame: metres or so, y up. `about` is what page/html.py writes.

const about = JSON.parse(document.getElementById("about").textContent);
const element = (id) => document.getElementById(id);
const cameras = about.cameras;
const SECONDS_BETWEEN_CAMERAS = 2;
const FRAME_RATE = 30;

// A browser limits how long a data: address may be, so that files are in several pieces.
async function unpacked(kind) {
  const pieces = [...document.querySelectorAll(`script.${kind}`)].map(async (piece) => {
    const answer = await fetch("data:application/octet-stream;base64," + piece.textContent);
    piece.remove();
    return answer.blob();
  });
  return new Blob(await Promise.all(pieces));
}

// The viewer's field of view is that of the window's longer side; all of the photograph is shown.
function fieldOfView({ focal, center }) {
  const tangent = [0, 1].map((i) => Math.max(center[i], 1 - center[i]) / focal[i]);
  const aspect = innerWidth / innerHeight;
  const vertical = Math.max(tangent[1], tangent[0] / aspect);
  return (2 * Math.atan(vertical * Math.max(aspect, 1)) * 180) / Math.PI;
}

function settings() {
  const poses = cameras.length ? cameras : [about.overview];
  const keys = poses.length > 1 ? poses : [poses[0], poses[0]];
  const off = { enabled: false };
  return {
    version: 2,
    tonemapping: "none",
    highPrecisionRendering: false,
    background: { color: [0, 0, 0] },
    postEffectSettings: { sharpness: off, bloom: off, grading: off, vignette: off, fringing: off },
    cameras: [{ initial: { ...poses[0], fov: fieldOfView(poses[0]) } }],
    annotations: [],
    startMode: cameras.length ? "animTrack" : "default",
    animTracks: cameras.length ? [wayThrough(keys)] : [],
  };
}

// The viewer's play button goes along the cameras; each has its time on that way.
function wayThrough(keys) {
  return {
    name: "cameras",
    duration: (keys.length - 1) * SECONDS_BETWEEN_CAMERAS,
    frameRate: FRAME_RATE,
    loopMode: "pingpong",
    interpolation: "spline",
    smoothness: 1,
    keyframes: {
      times: keys.map((_, number) => number * SECONDS_BETWEEN_CAMERAS * FRAME_RATE),
      values: {
        position: keys.flatMap((key) => key.position),
        target: keys.flatMap((key) => key.target),
        fov: keys.map(fieldOfView),
      },
    },
  };
}

// The viewer adds the scene upside down and does not scale it: that is put right before it looks.
function place(entity) {
  if (entity.name !== "gsplat") return;
  const { position, rotation, scale } = about.placement;
  entity.setLocalPosition(...position);
  entity.setLocalRotation(...rotation);
  entity.setLocalScale(scale, scale, scale);
}

class CameraList {
  constructor(viewer) {
    this.viewer = viewer;
    this.eye = viewer.app.root.findByName("camera");
    this.chosen = 0;
    this.buttons = cameras.map((camera, number) => this.add(camera, number));
    element("cameras").hidden = !cameras.length;
    element("photo-share").hidden = !cameras.some((camera) => camera.photo);
    element("before").onclick = () => this.choose(this.chosen - 1);
    element("after").onclick = () => this.choose(this.chosen + 1);
    element("share").oninput = () => this.layPhoto();
    for (const control of document.querySelectorAll("#cameras button, #cameras input")) {
      control.addEventListener("pointerup", () => control.blur()); // keys are for walking
    }
    viewer.events.on("controlsHidden:changed", (hidden) =>
      element("cameras").classList.toggle("faded", hidden)
    );
    viewer.app.on("frameend", () => this.layPhoto());
    addEventListener("resize", () => this.layPhoto());
    if (cameras.length) this.mark(0);
  }

  add(camera, number) {
    const button = document.createElement("button");
    button.title = camera.name;
    button.setAttribute("aria-label", camera.name);
    if (camera.photo) {
      const picture = document.createElement("img");
      picture.src = camera.photo;
      picture.alt = "";
      picture.loading = "lazy";
      picture.decoding = "async";
      button.append(picture);
    } else {
      button.textContent = camera.name;
    }
    button.onclick = () => this.choose(number);
    element("list").append(button);
    return button;
  }

  choose(number) {
    if (!this.viewer.state.loaded) return;
    this.mark((number + cameras.length) % cameras.length);
    this.viewer.state.animationPaused = true;
    this.viewer.seek(this.chosen * SECONDS_BETWEEN_CAMERAS);
  }

  mark(number) {
    this.buttons[this.chosen].removeAttribute("aria-current");
    this.chosen = number;
    this.buttons[number].setAttribute("aria-current", "true");
    this.buttons[number].scrollIntoView({ block: "nearest", inline: "nearest" });
    element("name").textContent = cameras[number].name;
    const photo = element("photo");
    if (cameras[number].photo) photo.src = cameras[number].photo;
    else photo.removeAttribute("src");
  }

  // The photograph lies over the rendering where it belongs: through its pinhole, and tilted as
  // the camera was, for the viewer itself always stands upright.
  layPhoto() {
    const photo = element("photo");
    const camera = cameras[this.chosen];
    photo.hidden = !camera?.photo || !this.isAt(camera);
    if (photo.hidden) return;
    const { right, up } = this.eye;
    const lens = this.eye.camera;
    const side = lens.horizontalFov ? innerWidth : innerHeight;
    const focal = side / 2 / Math.tan((lens.fov * Math.PI) / 360);
    const size = camera.focal.map((value) => focal / value);
    const middle = camera.center.map((value, i) => value * size[i]);
    const tilt = Math.atan2(-along(camera.right, up), along(camera.right, right));
    Object.assign(photo.style, {
      width: `${size[0]}px`,
      height: `${size[1]}px`,
      left: `${innerWidth / 2 - middle[0]}px`,
      top: `${innerHeight / 2 - middle[1]}px`,
      transformOrigin: `${middle[0]}px ${middle[1]}px`,
      transform: `rotate(${tilt}rad)`,
      opacity: element("share").value,
    });
  }

  isAt(camera) {
    const eye = this.eye.getPosition();
    const forward = camera.target.map((value, i) => value - camera.position[i]);
    const distance = Math.hypot(...forward);
    const gap = Math.hypot(...camera.position.map((value, i) => value - [eye.x, eye.y, eye.z][i]));
    return gap < 1e-3 * distance && along(forward, this.eye.forward) > 0.99999 * distance;
  }
}

function along(vector, { x, y, z }) {
  return vector[0] * x + vector[1] * y + vector[2] * z;
}

function explain(error) {
  element("trouble").hidden = false;
  element("trouble").textContent =
    "This scene cannot be shown. The page needs WebGL 2 and a browser of 2023 or later. " +
    `(${error?.message ?? error})`;
}

async function show(createViewer) {
  const viewer = await createViewer({
    container: element("scene"),
    settings: settings(),
    contentUrl: "data:,",
    contentFilename: "scene.sog",
    contents: unpacked("splat").then((file) => new Response(file)),
    renderer: "webgl",
    noanim: true,
  });
  viewer.app.root.on("childinsert", place);
  viewer.events.once("loaded:changed", () => performance.mark("first picture"));
  new CameraList(viewer);
}

// The viewer measures footprints in half pixels, so that its low-pass filter of 0.3 is a quarter of
// the one that scenes were optimised with: small Gaussians would be too thin and pictures too dark.
const widened = (code) => code.replaceAll(/(cov\[[01]\]\[[01]\]) \+ 0\.3/g, "$1 + 1.2");

// The viewer is a module; appended to a script it needs no address to be imported from.
async function start() {
  const packed = (await unpacked("viewer")).stream();
  const unzipped = packed.pipeThrough(new DecompressionStream("gzip"));
  const code = widened(await new Response(unzipped).text());
  globalThis.show = (createViewer) => show(createViewer).catch(explain);
  const script = document.createElement("script");
  script.type = "module";
  script.textContent = `${code}\nglobalThis.show(createViewer);`;
  document.body.append(script);
}

start().catch(explain);

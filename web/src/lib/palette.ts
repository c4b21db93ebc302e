// Line colours that keep 3:1 against the surface in each theme and stay apart for colour-blind eyes (after Okabe and Ito).
const light = ['#0f62c4', '#b5480a', '#0b7a57', '#8a3fa8', '#8a6500', '#c02457', '#0a7488', '#5a5f69'];
const dark = ['#6eaaff', '#ff9f5f', '#4fd1a1', '#d69bf0', '#e6bf4f', '#ff86a8', '#59cbe0', '#a8b0bc'];

export function lineColour(index: number, darkTheme: boolean): string {
  const palette = darkTheme ? dark : light;
  return palette[index % palette.length]!;
}

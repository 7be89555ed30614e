// Where the viewer begins.

import './style.css';
import { render } from 'preact';
import { App } from './app';
import { onKey } from './keys';
import { start } from './state';

window.addEventListener('keydown', onKey);
start();
render(<App />, document.getElementById('app')!);

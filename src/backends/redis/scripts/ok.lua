return { state, 'ok' }

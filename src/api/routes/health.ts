import Type from 'typebox';
import { route, type Route } from './common.ts';

export const healthRoutes = {
  'health.live': route({
    method: 'GET',
    path: '/healthz',
    summary: 'The process answers',
    tag: 'health',
    cli: [],
    status: 200,
    stream: 'text',
    open: true,
  }),
  'health.ready': route({
    method: 'GET',
    path: '/readyz',
    summary: 'It leads, and the database answers',
    tag: 'health',
    cli: [],
    status: 200,
    stream: 'text',
    open: true,
  }),
  'health.metrics': route({
    method: 'GET',
    path: '/metrics',
    summary: 'Prometheus metrics',
    tag: 'health',
    cli: [],
    status: 200,
    stream: 'text',
  }),
  'health.openapi': route({
    method: 'GET',
    path: '/openapi.json',
    summary: 'This document',
    tag: 'health',
    cli: [],
    status: 200,
    open: true,
    answer: Type.Unknown(),
  }),
  'health.reference': route({
    method: 'GET',
    path: '/reference',
    summary: 'The API reference as a page',
    tag: 'health',
    cli: [],
    status: 200,
    stream: 'text',
    open: true,
  }),
} as const satisfies Record<string, Route>;

// Colliders and welds of MuJoCo 3.3.7 in a later release.
//
// envs_mjx/physics/collider_table.py compiles and installs them. Only models that carry the mark take part; every other
// model gets the collider that was in the table before.

#include "contacts.h"

#define MARK "colliders_of_337"  // name of a numeric element

typedef int (*Collider)(Shape first, Shape second, Contact* contacts);

static const struct {
  int type_1, type_2;
  Collider collider;
} COLLIDERS[] = {
    {mjGEOM_BOX, mjGEOM_BOX, box_box_contacts},
    {mjGEOM_CYLINDER, mjGEOM_BOX, cylinder_box_contacts},
    {mjGEOM_CYLINDER, mjGEOM_CYLINDER, cylinder_cylinder_contacts},
    {mjGEOM_CAPSULE, mjGEOM_CYLINDER, capsule_cylinder_contacts},
};
#define NUM_COLLIDERS ((int)(sizeof(COLLIDERS) / sizeof(COLLIDERS[0])))

static mjfCollision originals[NUM_COLLIDERS];
static mjfGeneric original_control;

static int find(int type_1, int type_2) {
  for (int i = 0; i < NUM_COLLIDERS; i++)
    if (COLLIDERS[i].type_1 == type_1 && COLLIDERS[i].type_2 == type_2) return i;
  return -1;
}

static int is_marked(const mjModel* m) {
  for (int i = 0; i < m->nnumeric; i++)
    if (!strcmp(m->names + m->name_numericadr[i], MARK)) return 1;
  return 0;
}

static int collide(const mjModel* m, mjData* d, Contact* contacts, int g1, int g2, mjtNum margin) {
  int i = find(m->geom_type[g1], m->geom_type[g2]);
  if (margin != 0 || !is_marked(m)) return originals[i](m, d, contacts, g1, g2, margin);
  Shape first = {d->geom_xpos + 3 * g1, d->geom_xmat + 9 * g1, m->geom_size + 3 * g1};
  Shape second = {d->geom_xpos + 3 * g2, d->geom_xmat + 9 * g2, m->geom_size + 3 * g2};
  return COLLIDERS[i].collider(first, second, contacts);
}

// Take the bias term that welds have since 3.7 out of their reference acceleration. MuJoCo calls this between the two.
static void control(const mjModel* m, mjData* d) {
  if (original_control) original_control(m, d);
  if (!d->ne || !is_marked(m)) return;
  for (int i = 0; i < d->ne; i++) {
    if (d->efc_type[i] != mjCNSTR_EQUALITY || m->eq_type[d->efc_id[i]] != mjEQ_WELD) continue;
    const mjtNum* kbip = d->efc_KBIP + 4 * i;
    d->efc_aref[i] = -kbip[1] * d->efc_vel[i] - kbip[0] * kbip[2] * (d->efc_pos[i] - d->efc_margin[i]);
  }
}

// Put the colliders into the table and the correction of welds before the control callback. `table` and `callback` are the
// addresses of mjCOLLISIONFUNC and mjcb_control. A second call changes nothing.
void install(mjfCollision table[mjNGEOMTYPES][mjNGEOMTYPES], mjfGeneric* callback) {
  if (originals[0]) return;
  for (int i = 0; i < NUM_COLLIDERS; i++) {
    mjfCollision* entry = &table[COLLIDERS[i].type_1][COLLIDERS[i].type_2];
    originals[i] = *entry;
    *entry = (mjfCollision)collide;  // the cast drops a const that releases before 3.8 have
  }
  original_control = *callback;
  *callback = control;
}

// Contacts of two shapes without a model, for tests. `pair` is pos [2][3], mat [2][9] and size [2][3]; `out` is rows of
// distance, position and normal.
int contacts_of(int type_1, int type_2, const double* pair, double out[MAX_CONTACTS][7]) {
  Contact contacts[MAX_CONTACTS];
  Shape first = {pair, pair + 6, pair + 24}, second = {pair + 3, pair + 15, pair + 27};
  int count = COLLIDERS[find(type_1, type_2)].collider(first, second, contacts);
  for (int i = 0; i < count; i++) {
    out[i][0] = contacts[i].dist;
    memcpy(out[i] + 1, contacts[i].pos, 3 * sizeof(double));
#if mjVERSION_HEADER >= 3009000
    memcpy(out[i] + 4, contacts[i].normal, 3 * sizeof(double));
#else
    memcpy(out[i] + 4, contacts[i].frame, 3 * sizeof(double));
#endif
  }
  return count;
}
